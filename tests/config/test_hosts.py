"""The hosts file: what each line means, and that a bad line costs only itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwatch.config.hosts import SCHEMES, parse_hosts


def one(line):
    targets, bad = parse_hosts(line)
    assert not bad, bad[0]
    assert len(targets) == 1
    return targets[0]


@pytest.mark.parametrize(
    ("line", "name", "host", "port"),
    [
        ("dgx-a", "dgx-a", "dgx-a", 7080),
        ("192.168.0.1", "192.168.0.1", "192.168.0.1", 7080),
        ("dgx-a:7081", "dgx-a:7081", "dgx-a", 7081),
        ("a=dgx-a:7081", "a", "dgx-a", 7081),
        ("http://dgx-a:7081/", "dgx-a:7081", "dgx-a", 7081),
        ("[fe80::1]", "fe80::1", "fe80::1", 7080),
        ("v6=[::1]:9", "v6", "::1", 9),
        ("[fe80::1]:9", "[fe80::1]:9", "fe80::1", 9),
        ("  dgx-a   # the big one", "dgx-a", "dgx-a", 7080),
        ("\ufeffdgx-a", "dgx-a", "dgx-a", 7080),
        ("実験室=gpu01", "実験室", "gpu01", 7080),
    ],
)
def test_a_line_is_a_target(line, name, host, port):
    target = one(line)
    assert (target.name, target.host, target.port) == (name, host, port)


@pytest.mark.parametrize(
    ("line", "scheme", "port"),
    [
        ("node_info+http://old1", "node_info+http", 7080),
        ("accessgrid+http://old1", "accessgrid+http", 5000),
        ("dcgm+http://old1", "dcgm+http", 9400),
        ("nvitop+http://old1", "nvitop+http", 8000),
        ("node+http://old1", "node+http", 9100),
        ("x=dcgm+http://[::1]:9401 tags=a every=30s", "dcgm+http", 9401),
        ("dcgm+https://old1", "dcgm+https", 9400),
        ("nvitop+https://old1 pin=sha256:" + "a" * 64, "nvitop+https", 8000),
        ("node+https://me@old1 password_file=/p ca=/c.pem", "node+https", 9100),
    ],
)
def test_programs_that_are_not_gpuwatch_have_their_own_ports(line, scheme, port):
    targets, bad = parse_hosts(line, port=7099)
    assert not bad
    assert (targets[0].scheme, targets[0].port) == (scheme, port)


def test_one_machine_may_be_two_rows_and_only_node_info_takes_a_password():
    targets, bad = parse_hosts("dcgm+http://gpu[1-2]\nnode-1=node+http://gpu1\nnode_info+http://o password_file=/p\ndcgm+http://x password_file=/p\nnode+http://gpu2\n")
    assert [target.name for target in targets] == ["gpu1", "gpu2", "node-1", "o"]
    assert targets[3].password_file == "/p"
    assert [(line.line, line.message.partition(":")[0]) for line in bad] == [
        (4, "dcgm-exporter is asked without a password where there is no TLS"), (5, "the name gpu2 stands on line 1 already. Give this one another name"),
    ]  # fmt: skip


def test_exporters_take_a_user_and_a_password_file_by_tls_alone():
    targets, bad = parse_hosts(
        "node+https://me@gpu[1-2]:9101 password_file=/p pin=sha256:" + "a" * 64 + "\n"
        "dcgm+http://a password_file=/p\ndcgm+http://me@b\nnode+https://me@c\nnode+https://d password_file=/p\nnode+https://me:word@e password_file=/p\n"
        "dcgm+http://f ca=/c.pem\naccessgrid+http://g password_file=/p\naccessgrid+https://h\n"
    )  # fmt: skip
    assert [(target.name, target.host, target.user, target.password_file, target.address) for target in targets] == [
        ("gpu1:9101", "gpu1", "me", "/p", "gpu1:9101"), ("gpu2:9101", "gpu2", "me", "/p", "gpu2:9101"),
    ]  # fmt: skip
    assert [line.message for line in bad] == [
        "dcgm-exporter is asked without a password where there is no TLS: leave the password_file out, or write dcgm+https://USER@a:9400.",
        "an address with dcgm+http:// holds no user or password: leave out what stands before the @.",
        "the password of me is missing: put it into a file, and name that as password_file.",
        "the user that goes with the password_file belongs before the address: node+https://USER@d:9100.",
        "what stands before the @ is not a user's name; a password does not belong there, it stands in the file that password_file= names.",
        "pin= and ca= are for https:// addresses.",
        "AccessGrid is asked without a password: leave the password_file out.",
        "accessgrid+https:// is not known; this version asks by " + ", ".join(SCHEMES) + ".",
    ]


def test_keys():
    target = one("a=b tags=lab-a,train,lab-a password_file=/etc/p every=0.5")
    assert target.tags == ("lab-a", "train")
    assert target.password_file == "/etc/p"
    assert target.interval_seconds == 0.5


def test_ranges_keep_their_zeros_and_go_into_the_name():
    targets, bad = parse_hosts("gpu[08-11]\nn[1-2]=10.0.0.[7-8]:90\n")
    assert not bad
    assert [t.name for t in targets] == ["gpu08", "gpu09", "gpu10", "gpu11", "n1", "n2"]
    assert [t.address for t in targets[4:]] == ["10.0.0.7:90", "10.0.0.8:90"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a b", "'b' is none of tags, password_file, every"),
        ("a colour=red", "'colour=red' is none of tags, password_file"),
        ("=a", "a name and an address belong around '='"),
        ("a:0", "not a port"),
        ("a:99999", "not a port"),
        ("a:b", "not a port"),
        ("fe80::1", r"in brackets: [fe80::1]"),
        ("[zz]", "not an IPv6 address"),
        ("a\u202eb=host", "nothing invisible"),
        ("host tags=a\u200bb", "is not a tag"),
        ("ftp://a", "ftp:// is not known"),
        ("-a", "'-a' is not a host name"),
        ("a every=0.01", "shorter than 0.1 s"),
        ("a every=soon", "'soon' is not a span"),
        ("gpu[9-1]", "is empty"),
        ("gpu[0-99999]", "longer than 10000"),
        ("a[1-200]b[1-200]", "40000 addresses"),
        ("x=gpu[1-2]", "as long as those of the address"),
        ('"a"', "not a host name"),
        ("a<b=c", "cannot be a name"),
    ],
)
def test_a_bad_line_is_named_by_number_and_the_rest_is_kept(line, words):
    targets, bad = parse_hosts(f"first\n\n{line}\nlast\n")
    assert [t.name for t in targets] == ["first", "last"]
    assert bad[0].line == 3
    assert words in str(bad[0])


def test_the_names_of_imports_are_taken():
    _, (bad,) = parse_hosts("import:x=gpu1")
    assert bad.message.startswith("'import:x' cannot be a name: ")


def test_a_name_twice_keeps_the_first():
    targets, bad = parse_hosts("a\na=b\nx=same\ny=same\n")
    assert [t.name for t in targets] == ["a", "x", "y"]
    assert "stands on line 1 already" in str(bad[0])


@given(st.text(max_size=200))
def test_no_text_raises_and_names_are_unique(text):
    targets, bad = parse_hosts(text)
    assert len({t.name for t in targets}) == len(targets)
    assert all(str(line) for line in bad)
    assert all(0 < t.port < 65536 and t.host for t in targets)


@given(st.lists(st.sampled_from(["a", "[", "1-3", "]", ":", "=", "#", " ", "tags", ",", "http://", "::1", "80", "every"]), max_size=12))
def test_no_mix_of_the_grammar_s_pieces_raises(pieces):
    targets, bad = parse_hosts("".join(pieces))
    assert len(targets) + len(bad) >= 0
    assert all("\n" not in target.name and " " not in target.name for target in targets)


def test_https_with_a_pin_or_an_authority():
    digits = "0A:" * 31 + "0A"
    targets, bad = parse_hosts(f"a=https://gpu1:7443 pin=SHA256:{digits}\nhttps://gpu2 ca=/etc/ca.pem\nhttps://gpu3\n")
    assert bad == ()
    assert [(t.scheme, t.address, t.pin, t.ca_file) for t in targets] == [
        ("https", "gpu1:7443", "sha256:" + "0a" * 32, ""),
        ("https", "gpu2:7080", "", "/etc/ca.pem"),
        ("https", "gpu3:7080", "", ""),
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("https://a pin=sha256:12", "not sha256: and 64 hex digits"),
        ("https://a pin=md5:" + "a" * 64, "not sha256: and 64 hex digits"),
        ("a pin=sha256:" + "a" * 64, "for https:// addresses"),
        ("http://a ca=/x.pem", "for https:// addresses"),
    ],
)
def test_a_pin_that_cannot_be_is_said(line, words):
    targets, bad = parse_hosts(line)
    assert targets == ()
    assert words in str(bad[0])


@pytest.mark.parametrize(
    ("line", "name", "user", "host", "port", "address"),
    [
        ("ssh://gpu1", "gpu1", None, "gpu1", 0, "ssh://gpu1"),
        ("ssh://ops@gpu1", "gpu1", "ops", "gpu1", 0, "ssh://ops@gpu1"),
        ("ssh+copy://ops@gpu1:2222", "gpu1:2222", "ops", "gpu1", 2222, "ssh://ops@gpu1:2222"),
        ("a=ssh://me@corp.example@[fe80::1]:22", "a", "me@corp.example", "fe80::1", 22, "ssh://me@corp.example@[fe80::1]:22"),
    ],
)
def test_a_line_for_ssh(line, name, user, host, port, address):
    target = one(line)
    assert (target.name, target.user, target.host, target.port, target.address) == (name, user, host, port, address)
    assert target.scheme == line.partition("=")[2 if "=" in line else 0].partition("://")[0]


@pytest.mark.parametrize("line", ["ssh://-oProxyCommand=x@gpu1", "ssh://-oProxyCommand", "ssh://@gpu1", "ssh://a b@gpu1", "http://ops@gpu1", "ssh://ops:pw@gpu1"])
def test_no_word_of_ssh_s_command_line_is_an_option(line):
    targets, bad = parse_hosts(line)
    assert not targets
    assert len(bad) == 1


@pytest.mark.parametrize("line", ["http://ops:s3cret@gpu1", "ops:s3cret@gpu1", "n=https://ops:s3:cret@gpu1:7080", "n=ops:s3/cret@gpu1", "http://ops:s3cret@[::1]", "xx://ops:s3cret@h"])
def test_a_password_in_an_address_is_shown_nowhere(line):
    _, (bad,) = parse_hosts(line)
    assert "s3" not in str(bad)
    assert "cret" not in str(bad)
    assert "ops:***@" in bad.text


def test_a_password_in_an_address_of_ssh_is_not_shown():
    _, (bad,) = parse_hosts("ssh://ops:s3cret@gpu1")
    assert "s3cret" not in str(bad)
    assert "ssh logs in with a key" in str(bad)


@pytest.mark.parametrize("line", ["h password_file=", "h every=", "h pin=", "h ca=", "h every=1 every=2", "h password_file=/a password_file=/b", "h tags=a tags=b"])
def test_a_key_without_value_or_twice_is_no_default(line):
    targets, (bad,) = parse_hosts(line)
    assert targets == ()
    assert "stands twice" in bad.message or "with = and a value" in bad.message
