"""Broken model folders: each mistake is one line that names the folder, and never a video's fault."""

import hashlib
import json

import pytest
import tiny_model as tiny

from deepfake_detection.detector.config import OPTIONAL, REQUIRED, read_config
from deepfake_detection.detector.network import DetectorModel
from deepfake_detection.errors import UserError
from deepfake_detection.faces import flicker

WRONG = {
    "name": ["", 3, None, "x" * 100, "a\nb"],
    "version": ["", 1.4, None],
    "input_size": [0, -1, 64.0, "64", True, None, 10**9, 15],
    "margin": [-0.1, 3, "0.3", None, float("nan"), float("inf"), True],
    "flip": [0, 1, "no", None],
    "trim": [
        None,
        [],
        {},
        {"top": 0.1},
        {"top": 0.6, "bottom": 0.5},
        {"top": -0.1, "bottom": 0},
        {"top": "a", "bottom": 0},
        {"top": float("nan"), "bottom": 0},
    ],
    "calibration": [
        None,
        {},
        [],
        {"temperature": 0, "bias": 0},
        {"temperature": -1, "bias": 0},
        {"temperature": 1},
        {"temperature": 1, "bias": None},
        {"temperature": float("nan"), "bias": 0},
        {"temperature": float("inf"), "bias": 0},
        {"temperature": "1", "bias": 0},
        {"temperature": 1, "bias": 1e9},
    ],
    "thresholds": [
        None,
        {},
        {"fake_below": 0.6, "real_above": 0.4},
        {"fake_below": 0.4},
        {"fake_below": -1, "real_above": 0.4},
        {"fake_below": "0.4", "real_above": 0.6},
        {"fake_below": 0.1, "real_above": 2},
    ],
    "aggregation": [None, "", "average", 3, ["mean"], {}],
    "files": [None, {}, [], {"detector.onnx": 3}, {"detector.onnx": "abc"}],
    "detector": ["", "mtcnn2", 3, []],
    "confidence": [-1, 2, "0.6", True],
    "min_face_px": [0, -3, "20"],
    "sampling": ["all", 3, []],
    "views": [
        3,
        [],
        {},
        [3],
        [{}],
        [{"top": 0.1}],
        [{"top": 0.6, "bottom": 0.6}],
        [{"top": 0, "bottom": 0, "left": 0.7, "right": 0}],
        [{"top": 0, "bottom": 0, "left": 0.1}],
    ],
    "quality": [3, [], {"max_yaw": "9"}, {"max_yaw": None}, {"max_yaw": float("nan")}],
    "decision": [3, [], {"min_faces": "3"}, {"min_share": -1}],
    "rim": [3, {}, {"margin": 0, "input_size": 64, "every": 4}, {"margin": 0.2, "input_size": 64, "every": 0}],
    "flicker": [
        3,
        {},
        {"every": 1, "weights": [0.0] * 3, "bias": 0, "most": 1},
        {"every": 1, "weights": [float("nan")] * flicker.COUNT, "bias": 0, "most": 1},
        {"every": 0, "weights": [0.0] * flicker.COUNT, "bias": 0, "most": 1},
        {"every": 1, "weights": [0.0] * flicker.COUNT, "bias": 0, "most": -1},
    ],
    "frames": [0, -1, 1.5, "32", 10**9],
    "scale": [0, -1, "big", [], True],
}


@pytest.mark.parametrize("field", WRONG)
def test_each_field_is_checked(tmp_path, field):
    assert set(WRONG) == set(REQUIRED) | set(OPTIONAL)
    for value in WRONG[field]:
        tiny.build(tmp_path)
        stated = json.loads((tmp_path / "detector.json").read_text())
        (tmp_path / "detector.json").write_text(json.dumps({**stated, field: value}))
        with pytest.raises(UserError) as caught:
            read_config(tmp_path)
        assert field in caught.value.what and str(tmp_path) in caught.value.hint and str(caught.value).isprintable(), (
            value
        )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"3",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a": ' + b"9" * 10_000 + b"}",
        b" " * (2 << 20),
        b"PK\x03\x04",
    ],
    ids=["empty", "half", "list", "null", "number", "no utf8", "deep", "digits", "large", "zip"],
)
def test_what_is_no_description_is_said(tmp_path, content):
    tiny.build(tmp_path)
    (tmp_path / "detector.json").write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_config(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_file_or_nothing_for_the_folder_is_said(tmp_path):
    (tmp_path / "file").write_text("x")
    for given in (tmp_path / "file", tmp_path / "nothing", tmp_path):
        with pytest.raises(UserError, match="no detector here"):
            read_config(given)


def _network(size=tiny.SIZE, batch="N", kind="UINT8", ends=(("p_real", ["N", 1]),), body=None):
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    nodes = body or [
        helper.make_node("Cast", ["faces"], ["n"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["n", "axes"], ["m"], keepdims=0),
        helper.make_node("ReduceMean", ["m", "last"], ["l"], keepdims=1),
        helper.make_node("Sigmoid", ["l"], ["p_real"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("faces", getattr(TensorProto, kind), [batch, size, size, 3])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in ends],
        [
            numpy_helper.from_array(np.array([1, 2], np.int64), "axes"),
            numpy_helper.from_array(np.array([1], np.int64), "last"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()


def _body(*last):
    from onnx import TensorProto, helper

    return [
        helper.make_node("Cast", ["faces"], ["n"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["n", "axes"], ["m"], keepdims=0),
        helper.make_node("ReduceMean", ["m", "last"], ["l"], keepdims=1),
        *[helper.make_node(*node) for node in last],
    ]


NETWORKS = {
    "empty": lambda: b"",
    "text": lambda: b"no network",
    "half": lambda: _network()[:100],
    "other size": lambda: _network(size=32),
    "one face": lambda: _network(batch=1),
    "floats": lambda: _network(kind="FLOAT"),
    "three numbers": lambda: _network(
        ends=[("p_real", ["N", 3])], body=_body()[:2] + _body(("Sigmoid", ["m"], ["p_real"]))[-1:]
    ),
    "no probability": lambda: _network(body=_body(("Identity", ["l"], ["p_real"]))),
    "not a number": lambda: _network(body=_body(("Sub", ["l", "l"], ["z"]), ("Div", ["z", "z"], ["p_real"]))),
    "unknown operation": lambda: _network(body=_body(("NoSuchOperation", ["l"], ["p_real"]))),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_network_that_cannot_be_used_is_said(tmp_path, kind):
    data = NETWORKS[kind]()
    tiny.build(tmp_path, files={"detector.onnx": hashlib.sha256(data).hexdigest()})
    (tmp_path / "detector.onnx").write_bytes(data)
    with pytest.raises(UserError, match="network cannot be used") as caught:
        DetectorModel.load(tmp_path)
    assert str(tmp_path) in str(caught.value) and str(caught.value).isprintable()


def test_a_whole_folder_loads_and_a_byte_order_mark_does_no_harm(tmp_path):
    tiny.build(tmp_path, detector=None, confidence=None)
    text = (tmp_path / "detector.json").read_text()
    (tmp_path / "detector.json").write_text("\ufeff" + text, encoding="utf-8")
    assert DetectorModel.load(tmp_path).config == json.loads(text)
