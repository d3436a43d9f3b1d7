"""What a node needs to push, made from its settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpuwatch.config.settings import NodeSettings
from gpuwatch.model.errors import UsageError
from gpuwatch.node.newest import Newest
from gpuwatch.node.pushing import Pushing


def test_the_code_is_read_anew_from_its_file_and_a_missing_one_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "code"
    pushing = Pushing(NodeSettings(push="http://127.0.0.1:9", enroll="GIVEN", enroll_file=str(file), state_dir=str(tmp_path / "state")), Newest())
    assert [pushing._code() for _ in range(3)] == ["GIVEN"] * 3
    assert caplog.text.count("enroll_file: ") == 1
    for text in ("ONE", "TWO"):
        file.write_text(text)
        file.chmod(0o600)
        assert pushing._code() == text
    file.unlink()
    assert pushing._code() == "GIVEN"
    assert caplog.text.count("enroll_file: ") == 2
    pushing.close()


def test_an_address_that_is_none_is_wrong_usage(tmp_path: Path) -> None:
    for push, words in (("hub:7070", "is not a URL"), ("http://me:word@hub", "must not hold a name or password")):
        with pytest.raises(UsageError, match=words) as caught:
            Pushing(NodeSettings(push=push, state_dir=str(tmp_path)), Newest())
        assert "word@" not in str(caught.value)
