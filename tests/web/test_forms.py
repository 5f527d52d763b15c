"""Multipart forms: every way to name a file, and forms that are none."""

import asyncio
import time

import pytest

from deepfake_detection.web import forms, uploads

VIDEO = b"\0\0\0\x18ftypmp42" + b"\0" * 50


def receive(tmp_path, body: bytes, content_type="multipart/form-data; boundary=x", piece=7):
    async def pieces():
        for at in range(0, len(body), piece):
            yield body[at : at + piece]

    return asyncio.run(
        uploads.receive(pieces(), tmp_path / "upload", content_type=content_type, length=None, limit=10_000)
    )


def part(disposition: bytes, data=VIDEO, more=b"") -> bytes:
    return b"--x\r\nContent-Disposition: " + disposition + b"\r\n" + more + b"\r\n" + data + b"\r\n"


@pytest.mark.parametrize(
    "options, name",
    [
        pytest.param(b'filename="clip.mp4"', "clip.mp4", id="plain"),
        pytest.param(b"filename=clip.mp4", "clip.mp4", id="without quotes"),
        pytest.param(b'FileName = "clip.mp4"', "clip.mp4", id="capitals and spaces"),
        pytest.param('filename="Zürich 🎬.mp4"'.encode(), "Zürich 🎬.mp4", id="UTF-8, as browsers write"),
        pytest.param('filename="Zürich.mp4"'.encode("latin-1"), "Zürich.mp4", id="Latin-1"),
        pytest.param(b'filename="a\\"b;c.mp4"', 'a"b;c.mp4', id="escaped quote, semicolon"),
        pytest.param(b'filename="a%22b.mp4"', 'a"b.mp4', id="quote as browsers write"),
        pytest.param(b'filename="C:\\Users\\me\\clip.mp4"', "clip.mp4", id="Windows path"),
        pytest.param(b"filename*=UTF-8''Z%C3%BCrich%20%F0%9F%8E%AC.mp4", "Zürich 🎬.mp4", id="RFC 5987"),
        pytest.param(b"filename*=utf-8'de'Z%c3%bcrich.mp4", "Zürich.mp4", id="with a language"),
        pytest.param(b"filename*=iso-8859-1''Z%FCrich.mp4", "Zürich.mp4", id="RFC 5987 in Latin-1"),
        pytest.param(b"filename*=Shift_JIS''%93%AE%89%E6.mp4", "動画.mp4", id="Shift JIS"),
        pytest.param(b"filename*=\"UTF-8''Z%C3%BCrich.mp4\"", "Zürich.mp4", id="quoted, against the RFC"),
        pytest.param(b"filename*=''Z%C3%BCrich.mp4", "Zürich.mp4", id="no encoding named"),
        pytest.param(b"filename*=no-such-encoding''Z%C3%BCrich.mp4", "Zürich.mp4", id="unknown encoding"),
        pytest.param(b"filename*=UTF-8''Z%FCrich.mp4", "Zürich.mp4", id="bytes that are not of the named encoding"),
        pytest.param(b"filename*=UTF-8''a%zz.mp4", "a%zz.mp4", id="broken percent sign"),
        pytest.param(b"filename*=clip.mp4", "clip.mp4", id="star without quotes"),
        pytest.param(
            b"filename=\"stand-in.mp4\"; filename*=UTF-8''Z%C3%BCrich.mp4", "Zürich.mp4", id="both: the extended one"
        ),
        pytest.param(
            b"filename*=UTF-8''Z%C3%BCrich.mp4; filename=\"stand-in.mp4\"", "Zürich.mp4", id="both, other order"
        ),
        pytest.param(b"filename=\"clip.mp4\"; filename*=UTF-8''", "clip.mp4", id="both, the extended one empty"),
        pytest.param(b'filename*0="long "; filename*1="name.mp4"', "long name.mp4", id="RFC 2231 continued"),
        pytest.param(b'filename*1="b.mp4"; filename*0="a"', "ab.mp4", id="continued in another order"),
        pytest.param(
            b"filename*0*=UTF-8''Z%C3; filename*1*=%BCri; filename*2=\"ch.mp4\"",
            "Zürich.mp4",
            id="continued and encoded, cut in a letter",
        ),
        pytest.param(b'filename="=?UTF-8?B?WsO8cmljaC5tcDQ=?="', "Zürich.mp4", id="encoded word, base64"),
        pytest.param(b'filename="=?iso-8859-1?Q?Z=FCrich.mp4?="', "Zürich.mp4", id="encoded word, quoted-printable"),
        pytest.param(b'filename="=?x?B?!?="', "=?x?B?!?=", id="a name that looks like an encoded word"),
        pytest.param(b"filename*=UTF-8''..%2F..%2Fetc%2Fpasswd", "passwd", id="a path, encoded"),
        pytest.param(b"filename*=UTF-8''a%0D%0Ab%00.mp4", "ab.mp4", id="control characters, encoded"),
        pytest.param(b"filename*=UTF-8''%E2%80%AEgpj.mp4", "gpj.mp4", id="right-to-left, encoded"),
        pytest.param(b"filename*0=part; filename*=UTF-8''Z%C3%BCrich.mp4", "Zürich.mp4", id="extended and continued"),
        pytest.param(b'filename=""', "video", id="empty"),
    ],
)
def test_a_file_is_called_what_the_form_says(tmp_path, options, name):
    size, got = receive(tmp_path, part(b'form-data; name="file"; ' + options) + b"--x--\r\n")
    assert (size, uploads.shown_name(got)) == (len(VIDEO), name) and (tmp_path / "upload").read_bytes() == VIDEO


@pytest.mark.parametrize("kind", [b"video/mp4", b"application/octet-stream", b"Video/Quicktime"])
def test_a_file_without_a_name(tmp_path, kind):
    assert receive(tmp_path, part(b'form-data; name="file"', more=b"Content-Type: " + kind + b"\r\n") + b"--x--") == (
        len(VIDEO),
        None,
    )


@pytest.mark.parametrize(
    "disposition",
    [
        b"filename*0*=UTF-8''" + b"%41" * 1000,
        b"filename*=punycode''" + b"a" * 4000,
        b"filename*=idna''" + b"a" * 4000,
        b";".join(b"filename*%d=a" % n for n in range(400)),
        b'filename="' + b"\\" * 4000,
        b'"' * 4000,
        b";" * 4000,
        b"filename*" + b"9" * 3000 + b"=a",
        b"filename*" + b"9" * 5000 + b"=a",
        b"filename*0=a; filename*00=b; filename*-1=c; filename*=d",
        b"filename*=a'b'c'd'e",
        b"",
        b"\xff\xfe",
    ],
)
def test_hostile_names_are_read_at_once(disposition):
    start = time.process_time()
    forms.file_name(b"form-data; " + disposition)
    assert time.process_time() - start < 5, "linear, not quadratic"


FILE = part(b'form-data; name="file"; filename="a.mp4"')


@pytest.mark.parametrize(
    "body, content_type, words",
    [
        pytest.param(FILE, "multipart/form-data; boundary=x", "cut off", id="no closing boundary"),
        pytest.param(FILE + b"--x", "multipart/form-data; boundary=x", "cut off", id="closing boundary half there"),
        pytest.param(FILE[:-2], "multipart/form-data; boundary=x", "cut off", id="ends in the data"),
        pytest.param(FILE[:40], "multipart/form-data; boundary=x", "damaged|cut off", id="ends in a header"),
        pytest.param(b"", "multipart/form-data; boundary=x", "damaged", id="empty body"),
        pytest.param(FILE + FILE + b"--x--", "multipart/form-data; boundary=x", "more than one file", id="two files"),
        pytest.param(
            part(b'form-data; name="a"', b"b") + b"--x--", "multipart/form-data; boundary=x", "no file", id="no file"
        ),
        pytest.param(
            FILE, "multipart/form-data; boundary=" + "x" * 257, "boundary is too long", id="boundary of 257 bytes"
        ),
        pytest.param(
            FILE, "multipart/form-data; boundary=" + "x" * 60_000, "boundary is too long", id="boundary of 60,000 bytes"
        ),
        pytest.param(FILE, "multipart/form-data", "no boundary", id="no boundary"),
        pytest.param(FILE, 'multipart/form-data; boundary=""', "no boundary", id="empty boundary"),
        pytest.param(FILE, "multipart/form-data; boundary=y", "damaged", id="another boundary"),
        pytest.param(FILE, "multipart/form-data; boundary=\u00fc", "damaged", id="boundary not ASCII"),
        pytest.param(
            b"--x\r\n" + b"A: b\r\n" * 1000, "multipart/form-data; boundary=x", "damaged", id="a thousand headers"
        ),
        pytest.param(
            b"--x\r\nA: " + b"b" * 100_000, "multipart/form-data; boundary=x", "damaged|larger", id="an endless header"
        ),
        pytest.param(b"--x\r\nbad header\r\n\r\n", "multipart/form-data; boundary=x", "damaged", id="no header"),
    ],
)
def test_forms_that_cannot_be_read(tmp_path, body, content_type, words):
    with pytest.raises(uploads.Refused, match=words) as e:
        receive(tmp_path, body, content_type, piece=1000)
    assert e.value.status in (400, 413)


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data; boundary=x",
        'Multipart/Form-Data; charset=utf-8; BOUNDARY="x"',
        "multipart/form-data;boundary=x ;a=b",
    ],
)
def test_forms_that_can(tmp_path, content_type):
    assert receive(tmp_path, FILE + b"--x--\r\nafterwards", content_type)[0] == len(VIDEO)
