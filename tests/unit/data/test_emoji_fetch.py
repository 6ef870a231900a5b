from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from undiffuse.core.errors import DataError, DependencyError
from undiffuse.data.emoji.fetch import Tarball, fetch_package
from undiffuse.data.emoji.sources import Package

PACKAGE = Package("@scope/art", "1.2.3")


def test_tarballs_are_named_as_npm_names_them() -> None:
    assert PACKAGE.tarball == "scope-art-1.2.3.tgz"


def test_a_tarball_that_is_there_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    (tmp_path / PACKAGE.tarball).write_bytes(b"kept")
    assert fetch_package(PACKAGE, tmp_path).read_bytes() == b"kept"


def test_npm_pack_fetches(tmp_path: Path, fake_npm: Callable[[str], None]) -> None:
    fake_npm('[ "$1 $2" = "pack @scope/art@1.2.3" ] && echo data > "$4/scope-art-1.2.3.tgz"')
    folder = tmp_path / "downloads"
    assert fetch_package(PACKAGE, folder).read_text() == "data\n"
    assert [path.name for path in folder.iterdir()] == [PACKAGE.tarball]


def test_a_failed_fetch_names_the_package_and_two_ways_out(tmp_path: Path, fake_npm: Callable[[str], None]) -> None:
    fake_npm("echo 'npm ERR! network down' >&2; exit 1")
    with pytest.raises(DataError, match=r"@scope/art@1\.2\.3: npm ERR! network down.*again.*scope-art-1\.2\.3\.tgz .*by hand"):
        fetch_package(PACKAGE, tmp_path)


def test_npm_that_writes_nothing_is_an_error(tmp_path: Path, fake_npm: Callable[[str], None]) -> None:
    fake_npm("exit 0")
    with pytest.raises(DataError, match="wrote no file"):
        fetch_package(PACKAGE, tmp_path)


def test_without_npm_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DependencyError, match=r"install Node\.js"):
        fetch_package(PACKAGE, tmp_path)


def test_a_damaged_tarball_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "art.tgz"
    path.write_bytes(b"no gzip")
    with pytest.raises(DataError, match=r"art\.tgz cannot be read"):
        Tarball(path)


def test_a_missing_member_is_refused_by_name(downloads: Path) -> None:
    tarball = Tarball(next(downloads.glob("emojilib*")))
    with pytest.raises(DataError, match=r"holds no file 'icons\.json'"):
        tarball.json("icons.json")
