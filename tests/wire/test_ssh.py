"""ssh's command line and its errors in words."""

import shlex

import pytest

from gpuwatch.model.cluster import Target
from gpuwatch.model.errors import UsageError
from gpuwatch.wire.ssh import Way, argv, copy_command, explain, hash_command, node_command, remote_word

TARGET = Target("gpu1", "gpu1.lab", 0, "ssh", user="ops")


def test_the_command_line_asks_nothing_and_keeps_host_keys_checked():
    words = argv(TARGET, "true", Way("/etc/gpuwatch/ssh_config"))
    assert words[:4] == ["ssh", "-T", "-F", "/etc/gpuwatch/ssh_config"]
    assert words[-5:] == ["-l", "ops", "--", "gpu1.lab", "true"]
    assert "BatchMode=yes" in words
    assert "ServerAliveInterval=10" in words
    assert not [word for word in words if "StrictHostKeyChecking" in word or "UserKnownHostsFile" in word]
    assert "-p" not in words
    assert argv(Target("a", "::1", 2222, "ssh"), "true", Way())[-5:] == ["-p", "2222", "--", "::1", "true"]


def test_a_path_is_one_word_of_the_shell_there_and_the_home_stays_one():
    assert remote_word("~/a b/c.pyz") == "~/'a b/c.pyz'"
    assert remote_word("/opt/$(reboot)") == "'/opt/$(reboot)'"
    assert shlex.split(remote_word("/a'b; rm -rf ~")) == ["/a'b; rm -rf ~"]
    for bad in ("", "-x", "a\nb", "a\x00b", "/opt/wow!/x"):
        with pytest.raises(UsageError):
            remote_word(bad)


def test_what_is_run_there():
    way = Way(python="python3.11", file="/opt/gpuwatch.pyz")
    assert node_command(way, 0.5) == "exec python3.11 /opt/gpuwatch.pyz node --stdio --interval 0.5"
    for command in (hash_command(way), copy_command(way)):
        words = shlex.split(command)
        assert words[:2] == ["exec", "python3.11"]
        assert words[-1] == "/opt/gpuwatch.pyz"
        compile(words[-2], "there", "exec")


@pytest.mark.parametrize(
    ("code", "said", "kind", "words", "hint"),
    [
        (255, "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @|Host key verification failed.", "login", "not the one that is known", "ssh-keygen -R gpu1.lab"),
        (255, "No ED25519 host key is known for gpu1.lab and you have requested strict checking.|Host key verification failed.", "login", "not known here", "ssh ops@gpu1.lab"),
        (255, "ops@gpu1.lab: Permission denied (publickey,password).", "login", "is not let in (ops@gpu1.lab: Permission denied", "ssh-copy-id ops@gpu1.lab"),
        (255, "ssh: Could not resolve hostname gpu1.lab: Name or service not known", "network", "the name gpu1.lab is not known", "check the name"),
        (255, "ssh: connect to host gpu1.lab port 22: Connection timed out", "network", "Connection timed out", "is the machine on"),
        (255, "Timeout, server gpu1.lab not responding.", "lost", "went silent", "tried again"),
        (255, "Connection to gpu1.lab closed by remote host.", "lost", "closed by remote host", "tried again"),
        (255, "/home/x/.ssh/config: line 3: Bad configuration option: foo", "setup", "ssh's configuration here is refused.", "ssh -G"),
        (127, "bash: line 1: exec: python3: not found", "setup", "python3 is not on that machine (bash: line 1", "install Python"),
        (2, "python3: can't open file '/home/x/.local/share/gpuwatch/gpuwatch.pyz': [Errno 2] No such file or directory", "setup", "there is no gpuwatch at ~/", "gpuwatch deploy"),
        (2, "python3: can't open file '/opt/x.pyz': [Errno 13] Permission denied", "setup", "cannot be read", "chmod"),
        (1, "gpuwatch: needs Python 3.9 or newer, this is 3.6.8: try python3.11 gpuwatch.pyz", "setup", "too old", "ssh_python"),
        (2, "gpuwatch: No such option: --stdio Next: gpuwatch node --help", "setup", "older than this hub", "--upgrade"),
        (1, "cannot write /home/x/gpuwatch.pyz: No space left on device", "setup", "disk there is full", "make room"),
        (1, "something else", "setup", "exit code 1 (something else)", "by hand"),
        (255, "", "lost", "the connection or the program there ended", "tried again"),
        (None, "", "lost", "takes too long", "load"),
    ],
)  # fmt: skip
def test_errors_in_words(code, said, kind, words, hint):
    trouble = explain(TARGET, Way(), code, said.split("|") if said else [])
    assert trouble.kind == kind
    assert words in trouble.text
    assert hint in trouble.hint
    assert trouble.words == f"{trouble.text} Next: {trouble.hint}"


def test_what_a_stranger_says_is_printable_and_short():
    trouble = explain(TARGET, Way(), 1, ["\x1b[2J{host}\u202e" + "x" * 900])
    assert trouble.text.isprintable()
    assert len(trouble.text) < 300
    assert "{host}" in trouble.text
    assert explain(TARGET, Way(), 1, [], "This account is currently not available.").text.endswith("(This account is currently not available).")
