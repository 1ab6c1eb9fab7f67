"""Archives are opened in memory, and only as far as their limits go."""

import bz2
import contextlib
import gzip
import io
import lzma
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePosixPath

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.errors import UnreadableImage
from ml.imaging import Limits, is_archive, members
from ml.imaging.archives import pictures_of_viewers

LIMITS = Limits()


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(files: dict[str, bytes], packing: str = "", form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar archive, by a name that ends in "/" with directories."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{packing}", format=form) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            entry = tarfile.TarInfo(name.rstrip("/"))
            entry.size = len(content)
            entry.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def code_of(content: bytes, limits: Limits = LIMITS) -> str:
    with pytest.raises(UnreadableImage) as caught:
        list(members(content, limits))
    return caught.value.code


def announcing(content: bytes, size: int) -> bytes:
    """The archive of one file, with another size of that file in both of its directories."""
    lying = bytearray(content)
    lying[22:26] = struct.pack("<L", size)
    directory = content.index(b"PK\x01\x02")
    lying[directory + 24 : directory + 28] = struct.pack("<L", size)
    return bytes(lying)


def frugally(action: Callable[[], str], most: int = 40) -> str:
    tracemalloc.start()
    try:
        result = action()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < most * 2**20
    return result


def test_files_come_out_with_their_names_in_order() -> None:
    files = {"DICOM/IM1": b"one", "DICOM/deeper/IM2": b"two", "../../etc/passwd": b"three"}
    content = zipped(files)
    assert is_archive(content)
    assert dict(members(content, LIMITS)) == files


def test_what_systems_and_discs_add_is_passed_over() -> None:
    files = {
        "DICOMDIR": b"x", "a/dicomdir": b"x", "__MACOSX/a/._IM1": b"x", ".DS_Store": b"x",
        "a/.hidden/IM1": b"x", "Thumbs.db": b"x", "empty": b"", "folder/": b"", "a/IM1": b"1",
    }  # fmt: skip
    assert list(members(zipped(files), LIMITS)) == [("a/IM1", b"1")]


def test_an_archive_in_an_archive_is_opened_and_no_deeper_one() -> None:
    inner = zipped({"IM1": b"1"})
    assert list(members(zipped({"a.zip": inner, "IM2": b"2"}), LIMITS)) == [
        ("a.zip/IM1", b"1"),
        ("IM2", b"2"),
    ]
    assert code_of(zipped({"b.zip": zipped({"a.zip": inner})})) == "archive_too_deep"


def test_encrypted_archives_are_refused() -> None:
    content = bytearray(zipped({"IM1": b"1"}))
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    assert code_of(bytes(content)) == "archive_encrypted"


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
class TestMethods:
    def test_files_come_out_whole(self, method: int) -> None:
        files = {"IM1": bytes(range(256)) * 700, "IM2": b"2", "a/IM3": bytes(300_000)}
        assert dict(members(zipped(files, method), LIMITS)) == files

    def test_no_more_is_unpacked_than_announced(self, method: int) -> None:
        content = announcing(zipped({"IM1": bytes(100 * 2**20)}, method), 100)
        assert frugally(lambda: code_of(content), most=160) == "archive_damaged"


def test_xz_is_opened_and_other_compression_named() -> None:
    body = b"1" * 5000
    packed = lzma.compress(body)
    content = zipped({"IM1": packed}, zipfile.ZIP_STORED)
    directory = content.index(b"PK\x01\x02")
    for at in (0, directory + 2):
        content = with_bytes(content, at + 8, struct.pack("<H", 95))
        content = with_bytes(content, at + 14, struct.pack("<L", zlib.crc32(body)))
        content = with_bytes(content, at + 22, struct.pack("<L", len(body)))
    assert dict(members(content, LIMITS)) == {"IM1": body}
    for method in (9, 93, 98):  # Deflate64, Zstandard, PPMd
        assert code_of(with_bytes(content, directory + 10, bytes([method]))) == "archive_method"


def test_a_dictionary_larger_than_the_file_takes_no_room() -> None:
    content = zipped({"IM1": b"1" * 5000}, zipfile.ZIP_LZMA)
    at = 30 + len("IM1") + 4  # behind the local header and the header of LZMA
    large = with_bytes(content, at + 1, b"\xff\xff\xff\xf0")
    assert frugally(lambda: str(len(list(members(large, LIMITS))))) == "1"


def with_bytes(content: bytes, at: int, other: bytes) -> bytes:
    return content[:at] + other + content[at + len(other) :]


def test_names_may_hold_zeros_and_differ_from_those_in_front_of_the_files() -> None:
    content = zipped({"XIM1": b"1", "aXc": b"2", "aXd": b"3"})
    zeros = content.replace(b"XIM1", b"\0IM1").replace(b"aX", b"a\0")
    assert list(members(zeros, LIMITS)) == [("_IM1", b"1"), ("a_c", b"2"), ("a_d", b"3")]
    alone = zipped({"X": b"1"}).replace(b"X", b"\0")
    assert list(members(alone, LIMITS)) == [("_", b"1")]
    other = content.replace(b"XIM1", b"YIM1", 1)
    assert ("XIM1", b"1") in list(members(other, LIMITS))


def test_pictures_of_a_disc_s_viewer_are_passed_over_and_its_programs_are_handed_on() -> None:
    images = {"DICOM/IM1": b"1", "DICOM/IM2.dcm": b"2"}
    viewer = {"VIEWER/viewer.exe": b"x", "VIEWER/img/logo.PNG": b"x", "lib/a.jar": b"x"}
    for sign in ("DICOMDIR", "autorun.inf", "DICOMDIR;1", "start.exe"):
        disc = zipped({sign: b"x", **viewer, **images})
        found = dict(members(disc, LIMITS))
        assert images.items() <= found.items()
        # What is no image is refused by its content, counted and named.
        left = set(found) - set(images) - {"autorun.inf", "start.exe"}
        assert left == {"VIEWER/viewer.exe", "lib/a.jar"}
    pictures = {"a/1.png": b"1", "a/2.jpg": b"2", "readme.txt": b"3"}
    assert dict(members(zipped(pictures), LIMITS)) == pictures


def test_an_archive_of_nothing_is_named() -> None:
    for files in ({}, {"a/": b""}, {"DICOMDIR": b"x"}, {"a.zip": zipped({})}):
        assert code_of(zipped(files)) == "archive_empty"
    inner = {"empty.zip": zipped({}), "IM1": b"1"}
    assert list(members(zipped(inner), LIMITS)) == [("IM1", b"1")]


class TestLimits:
    def test_number_of_files(self) -> None:
        content = zipped({f"IM{number}": b"1" for number in range(20)})
        assert code_of(content, Limits(max_entries=19)) == "archive_too_large"
        assert len(list(members(content, Limits(max_entries=20)))) == 20

    def test_number_of_files_counts_through_all_archives(self) -> None:
        inner = zipped({f"IM{number}": b"1" for number in range(10)})
        content = zipped({"a.zip": inner, "b.zip": inner})
        assert code_of(content, Limits(max_entries=21)) == "archive_too_large"
        assert len(list(members(content, Limits(max_entries=22)))) == 20

    def test_total_size_counts_through_all_archives(self) -> None:
        inner = zipped({"IM1": bytes(1000)})
        content = zipped({"a.zip": inner, "b.zip": inner})
        assert code_of(content, Limits(max_archive_bytes=2000)) == "archive_too_large"
        assert len(list(members(content, Limits(max_archive_bytes=3000)))) == 2

    def test_size_of_one_file(self) -> None:
        content = zipped({"IM1": bytes(2000)})
        assert code_of(content, Limits(max_bytes=1999)) == "archive_too_large"

    def test_expansion(self) -> None:
        content = zipped({f"IM{number}": bytes(10 * 2**20) for number in range(10)})
        assert frugally(lambda: code_of(content)) == "archive_too_large"

    def test_a_directory_of_many_entries_is_not_even_read(self) -> None:
        entry = b"PK\x01\x02" + bytes(42)
        assert frugally(lambda: code_of(b"PK\x03\x04" + entry * 300_000)) == "archive_too_large"


class TestLies:
    def test_a_file_that_is_larger_than_announced_is_read_no_further(self) -> None:
        content = announcing(zipped({"IM1": bytes(300 * 2**20)}), 100)
        assert frugally(lambda: code_of(content)) == "archive_damaged"

    def test_a_file_that_is_smaller_than_announced_is_refused(self) -> None:
        assert code_of(announcing(zipped({"IM1": b"1" * 50}), 5000)) == "archive_damaged"

    def test_a_wrong_checksum_is_noticed(self) -> None:
        content = zipped({"IM1": b"1" * 50}, zipfile.ZIP_STORED)
        assert code_of(content.replace(b"1" * 50, b"2" * 50)) == "archive_damaged"

    @pytest.mark.parametrize("end", [4, 30, -1, -30])
    def test_incomplete_archives(self, end: int) -> None:
        assert code_of(zipped({"IM1": b"1" * 500})[:end]) == "archive_damaged"

    @settings(max_examples=300, deadline=None)
    @given(st.data())
    def test_damaged_archives_never_raise_anything_else(self, data: st.DataObject) -> None:
        content = bytearray(
            zipped({"a/IM1": zlib.compress(b"1" * 300), "b.zip": zipped({"c": b"d"})})
        )
        for _ in range(data.draw(st.integers(1, 6))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        with contextlib.suppress(UnreadableImage):
            list(members(bytes(content), LIMITS))


def test_pictures_of_a_viewer_are_named_as_left_out() -> None:
    files = {"DICOMDIR": b"x", "IM1": b"one", "VIEWER/logo.png": b"logo", "VIEWER/run.exe": b"MZ"}
    left_out: list[tuple[str, str]] = []
    inner = zipped(files)
    found = dict(members(zipped({"disc.zip": inner, "IM2": b"two"}), LIMITS, left_out))
    assert sorted(found) == ["IM2", "disc.zip/IM1", "disc.zip/VIEWER/run.exe"]
    assert left_out == [("disc.zip/DICOMDIR", "junk"), ("disc.zip/VIEWER/logo.png", "junk")]


def test_what_is_passed_over_is_named() -> None:
    files = {"IM1": b"1", "IM2": b"", "a/": b"", "__MACOSX/._IM1": b"x", "a.zip": zipped({})}
    for content in (zipped(files), tarred(files)):
        left_out: list[tuple[str, str]] = []
        assert list(members(content, LIMITS, left_out)) == [("IM1", b"1")]
        assert sorted(left_out) == [
            ("IM2", "empty"),
            ("__MACOSX/._IM1", "junk"),
            ("a.zip", "archive_empty"),
        ]


def test_pictures_beside_a_program_alone_are_no_viewer_s() -> None:
    slices = [PurePosixPath("a/1.png"), PurePosixPath("a/2.png")]
    assert pictures_of_viewers([*slices, PurePosixPath("a/setup.exe")]) == set()
    disc = [PurePosixPath("DICOMDIR"), PurePosixPath("IM1"), PurePosixPath("start.exe")]
    assert pictures_of_viewers([*slices, *disc]) == set(slices)


def test_archives_in_an_archive_grow_no_further_than_it_may_itself() -> None:
    inner = zipped({"black": bytes(60 * 2**20)})
    content = zipped({f"{number}.zip": inner for number in range(20)}, zipfile.ZIP_STORED)
    assert code_of(zipped({"all.zip": content}), replace(LIMITS, max_depth=3)) == (
        "archive_too_large"
    )


def test_archives_in_an_archive_are_counted() -> None:
    inner = zipped({"one": b"1"})
    content = zipped({f"{number}.zip": inner for number in range(LIMITS.max_archives)})
    assert code_of(content) == "archive_too_large"


@pytest.mark.parametrize("name", ["\0", "\0\0.png", "a\0b", "NUL", "CON.dcm"])
def test_names_can_be_anything(name: str) -> None:
    content = zipped({"x" * len(name): b"1"}).replace(b"x" * len(name), name.encode())
    assert [member for _name, member in members(content, LIMITS)] == [b"1"]


PACKINGS = ["", "gz", "bz2", "xz"]


@pytest.mark.parametrize("packing", PACKINGS)
class TestTar:
    def test_files_come_out_with_their_names_in_order(self, packing: str) -> None:
        long = "a" * 90 + "/" + "ü" * 80 + "/IM2"
        files = {"a/IM1": bytes(range(256)) * 5000, long: b"2", "../../etc/passwd": b"three"}
        for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
            content = tarred(files, packing, form)
            assert is_archive(content)
            assert dict(members(content, LIMITS)) == files

    def test_archives_in_archives(self, packing: str) -> None:
        inner = tarred({"IM1": b"1"}, packing)
        for content in (tarred({"a.tar": inner}), zipped({"a.tar": inner})):
            assert list(members(content, LIMITS)) == [("a.tar/IM1", b"1")]
        deep = tarred({"b.zip": zipped({"a.tar": inner})}, packing)
        assert code_of(deep) == "archive_too_deep"

    def test_incomplete_ones_are_refused_before_anything_is_handed_out(self, packing: str) -> None:
        body = bytes(np.random.default_rng(3).integers(0, 256, 40_000, dtype=np.uint8))
        content = tarred({"IM1": body, "IM2": body[::-1]}, packing)
        for share in (0.3, 0.6, 0.85):
            opened = members(content[: int(len(content) * share)], LIMITS)
            with pytest.raises(UnreadableImage, match="damaged"):
                next(opened)

    def test_bombs(self, packing: str) -> None:
        files = {f"IM{number}": bytes(30 * 2**20) for number in range(8)}
        content = tarred(files, packing)
        few = replace(LIMITS, max_archive_bytes=100 * 2**20)
        assert frugally(lambda: code_of(content, few), most=140) == "archive_too_large"
        if packing:
            assert frugally(lambda: code_of(content), most=140) == "archive_too_large"


class TestLimitsOfTar:
    def test_number_and_size_of_files(self) -> None:
        content = tarred({f"IM{number}": b"11" for number in range(20)})
        assert code_of(content, Limits(max_entries=19)) == "archive_too_large"
        assert code_of(content, Limits(max_bytes=1)) == "archive_too_large"
        assert code_of(content, Limits(max_archive_bytes=39)) == "archive_too_large"
        assert len(list(members(content, Limits(max_entries=20, max_archive_bytes=40)))) == 20

    def test_numbers_count_through_all_archives(self) -> None:
        inner = tarred({f"IM{number}": b"1" for number in range(10)})
        content = zipped({"a.tar": inner, "b.tar": inner})
        assert code_of(content, Limits(max_entries=21)) == "archive_too_large"
        assert len(list(members(content, Limits(max_entries=22)))) == 20

    def test_announced_sizes_that_are_not_there(self) -> None:
        entry = tarfile.TarInfo("IM1")
        for size in (5000, 2**33, 2**62):
            entry.size = size
            content = entry.tobuf(tarfile.GNU_FORMAT) + bytes(2048)
            assert code_of(content) in {"archive_damaged", "archive_too_large"}

    def test_extended_headers_are_short_and_hold_no_long_numbers(self) -> None:
        head = tarfile.TarInfo("x")
        head.type = tarfile.XHDTYPE
        for size, body in ((10**6, b"1" * 10**6), (16_000, b"1" * 16_000), (2**40, b"")):
            head.size = size
            padded = body + bytes(-len(body) % 512)
            content = head.tobuf(tarfile.GNU_FORMAT) + padded + tarred({"IM1": b"1"})
            assert code_of(content) in {"archive_damaged", "archive_too_large"}

    def test_headers_upon_headers(self) -> None:
        head = tarfile.TarInfo("x")
        head.type = tarfile.GNUTYPE_LONGNAME
        head.size = 2
        content = (head.tobuf(tarfile.GNU_FORMAT) + b"a".ljust(512, b"\0")) * 20_000
        assert code_of(content) in {"archive_damaged", "archive_too_large"}


def test_links_devices_and_sparse_files_are_named_as_left_out() -> None:
    buffer = io.BytesIO()
    kinds = {
        "soft": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE, "device": tarfile.CHRTYPE,
        "disk": tarfile.BLKTYPE, "pipe": tarfile.FIFOTYPE,
    }  # fmt: skip
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, kind in kinds.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "/etc/passwd"
            archive.addfile(entry)
        one = tarfile.TarInfo("IM1")
        one.size = 1
        archive.addfile(one, io.BytesIO(b"1"))
    left_out: list[tuple[str, str]] = []
    assert list(members(buffer.getvalue(), LIMITS, left_out)) == [("IM1", b"1")]
    assert left_out == [(name, "link") for name in kinds]


def test_tar_archives_behind_one_another_are_both_read() -> None:
    content = tarred({"IM1": b"1"}) + tarred({"IM2": b"2"})
    assert list(members(content, LIMITS)) == [("IM1", b"1"), ("IM2", b"2")]
    assert code_of(content + b"something else" * 100) == "archive_damaged"


def test_names_that_are_no_text_can_be_shown() -> None:
    content = tarred({"n\udcfcme": b"1"}, form=tarfile.GNU_FORMAT)
    ((name, _content),) = members(content, LIMITS)
    assert name == "n\ufffdme"


def test_a_compressed_image_is_no_archive() -> None:
    volume = b"\0" * 5000
    for packed in (gzip.compress(volume), bz2.compress(volume), lzma.compress(volume)):
        assert not is_archive(packed)


# Made once: gzip and ZIP write the time down, and draws must not depend on it.
TO_BE_DAMAGED = [
    tarred({"a/IM1": b"1" * 300, "ü" * 70: b"2", "b.zip": zipped({"c": b"d"})}, packing)
    for packing in PACKINGS
]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_tar_archives_never_raise_anything_else(data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(TO_BE_DAMAGED)))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(UnreadableImage):
        list(members(bytes(content), LIMITS))
