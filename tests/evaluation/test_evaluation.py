# SPDX-License-Identifier: Apache-2.0
"""Evaluation end to end on a small set, with a tiny detector."""

import json

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

import src.evaluation.run as evaluation
from src.base.errors import UserError
from src.checkpoints.file import describe_model, save_checkpoint
from src.data.mindrecord import ensure_mindrecord
from src.detector import ViewsDetector
from src.evaluation.coco_results import detections_to_results, write_results
from src.images.batching import batches_of
from src.images.reading import read_image
from tests.helpers.colour_detector import ColourDetector
from tests.helpers.tiny_detector import TinyDetector
from tests.helpers.tiny_run import CLASS_NAMES, NUM_VAL, make_data, tiny_config, use_tiny_detector

ms.set_context(mode=ms.GRAPH_MODE)
VAL_IDS = [7 + 3 * i for i in range(NUM_VAL)]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("evaluation data"))


@pytest.fixture
def setting(root, tmp_path, monkeypatch):
    """Builds (configuration, checkpoint of a tiny detector)."""
    use_tiny_detector(monkeypatch.setattr)

    def make(**changes):
        path = tmp_path / "detector.ckpt"
        config = tiny_config(root, tmp_path / "out", **{"checkpoint_path": path, **changes})
        if not path.exists():
            ms.set_seed(0)
            meta = {**describe_model(config), "epoch": 4}
            save_checkpoint(path, TinyDetector(config.num_classes), meta=meta)
        return config

    return make


class _Oracle:
    """Gives the ground truth back: image_index is what its batches' images are looked up by."""

    def __init__(self, records, k=4):
        self.records, self.k, self.next = records, k, 0

    def __call__(self, image, image_meta):
        batch = image.shape[0]
        boxes = np.zeros((batch, self.k, 4), np.float32)
        labels = np.zeros((batch, self.k), np.int32)
        valid = np.zeros((batch, self.k), bool)
        for i in range(batch):
            record = self.records[self.next % len(self.records)]
            self.next += 1
            count = len(record.labels)
            boxes[i, :count], labels[i, :count] = record.boxes, record.labels
            valid[i, :count] = True
        scores = valid.astype(np.float32)
        return tuple(Tensor(array) for array in (boxes, scores, labels, valid))


def _run(cell, config):
    """What evaluation gets: a Cell that looks at pictures in the views of the configuration."""
    return ViewsDetector(cell, config, lambda cell, *inputs: cell(*inputs))


def test_the_whole_report(setting, capsys):
    config = setting()
    assert evaluation.run_evaluation(config) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert sum("Average Precision" in line or "Average Recall" in line for line in lines) == 12
    assert all(any(line.startswith(f"{name} ") for line in lines) for name in CLASS_NAMES)
    assert "epoch 4" in out and "images/s" in out and f"{NUM_VAL} images" in out
    results = json.loads((evaluation.result_path_of(config)).read_text())
    assert {result["image_id"] for result in results} == set(VAL_IDS)
    assert {result["category_id"] for result in results} <= {10, 20, 30}
    # A training run's config.yaml may stand in the same folder.
    folder = evaluation.result_path_of(config).parent
    assert sorted(p.name for p in folder.iterdir()) == ["eval_config.yaml", "results.json"]


def test_a_closer_look(setting, root, capsys):
    config = setting(report=True, test_score_thr=0.1)
    assert evaluation.run_evaluation(config) == 0
    path = evaluation.result_path_of(config).with_name("evaluation_report.json")
    out = capsys.readouterr().out
    assert f"evaluation report: {path.resolve()}" in out
    report = json.loads(path.read_text())
    assert report["subject"] == {
        "detector": config.checkpoint_path,
        "epoch": 4,
        "annotations": str(root / "annotations" / "instances_val.json"),
        "image_folder": str(root / "val"),
        "results": str(path.with_name("results.json")),
    }
    assert report["pictures"]["table"]["image_id"] == VAL_IDS
    assert report["settings"]["lowest_score"] == 0.1
    assert report["speed"]["processes"] == 1 and report["speed"]["images_per_second"] > 0
    ap50 = next(line for line in out.splitlines() if "IoU=0.50  " in line)
    assert f"= {report['errors']['ap50']:.3f}" in ap50


@pytest.mark.parametrize("batch", [1, 2, 4, 8])
def test_every_image_once_whatever_the_batch(setting, batch):
    config = setting(test_batch_size=batch)
    records = ensure_mindrecord(config, "val")
    truth = evaluation.read_ground_truth(config, records)
    summary, detections = evaluation.evaluate(
        _run(_Oracle(records.records), config), config, records, truth
    )
    assert detections.image_ids == VAL_IDS
    assert summary.ap == pytest.approx(1.0)
    assert detections.images_per_second > 0


def test_evaluation_looks_at_the_views_that_detector_looks_at(setting):
    config = setting(test_flip=True, test_scales=[1.0, 0.5], test_score_thr=0.2)
    records = ensure_mindrecord(config, "val")
    detector = _run(ColourDetector(2), config)
    found = evaluation.detect(detector, config, records, [10, 20, 30])
    expected = []
    pictures = enumerate(map(read_image, records.image_paths))
    for batch, inputs in batches_of(pictures, detector.views, config.test_batch_size):
        ids = [records.image_ids[i] for i, _ in batch]
        outputs = (output[: len(batch)] for output in detector(inputs))
        expected += detections_to_results(ids, *outputs, [10, 20, 30])
    assert len(expected) > 20 and found.results == expected


def test_only_so_many_images(setting):
    config = setting(max_val_images=3)
    records = ensure_mindrecord(config, "val")
    truth = evaluation.read_ground_truth(config, records)
    oracle = _Oracle(records.records[:3])
    summary, detections = evaluation.evaluate(_run(oracle, config), config, records, truth)
    assert detections.image_ids == VAL_IDS[:3] and summary.num_images == 3
    assert summary.ap == pytest.approx(1.0)


def test_no_detection_in_the_whole_set(setting, tmp_path):
    config = setting()
    records = ensure_mindrecord(config, "val")
    truth = evaluation.read_ground_truth(config, records)
    none = _Oracle([type("Record", (), {"boxes": np.zeros((0, 4)), "labels": []})])
    summary, detections = evaluation.evaluate(_run(none, config), config, records, truth)
    assert summary.ap == 0.0 and detections.results == []
    path = tmp_path / "results.json"
    write_results(path, detections.results)
    assert json.loads(path.read_text()) == []


def test_giving_up(setting):
    config = setting()
    records = ensure_mindrecord(config, "val")
    truth = evaluation.read_ground_truth(config, records)
    oracle = _Oracle(records.records)
    outcome = evaluation.evaluate(
        _run(oracle, config), config, records, truth, should_stop=lambda: True
    )
    assert outcome is None and oracle.next == config.test_batch_size


def test_annotation_file_on_the_command_line(setting, root, tmp_path):
    data = json.loads((root / "annotations" / "instances_val.json").read_text())
    data["images"] = data["images"][:2]
    data["annotations"] = [a for a in data["annotations"] if a["image_id"] in VAL_IDS[:2]]
    path = tmp_path / "two images.json"
    path.write_text(json.dumps(data))
    config = setting(anno_path=path, result_file=tmp_path / "r" / "mine.json")
    assert evaluation.run_evaluation(config) == 0
    results = json.loads((tmp_path / "r" / "mine.json").read_text())
    assert {result["image_id"] for result in results} == set(VAL_IDS[:2])


def test_txt_data(setting, root, tmp_path):
    data = json.loads((root / "annotations" / "instances_val.json").read_text())
    rows = []
    for image in data["images"]:
        boxes = [
            (
                *a["bbox"][:2],
                a["bbox"][0] + a["bbox"][2],
                a["bbox"][1] + a["bbox"][3],
                a["category_id"] // 10,
            )
            for a in data["annotations"]
            if a["image_id"] == image["id"]
        ]
        rows.append(" ".join([image["file_name"], *(",".join(map(str, box)) for box in boxes)]))
    (tmp_path / "val.txt").write_text("\n".join(rows))
    config = setting(
        dataset="other", anno_path=tmp_path / "val.txt", image_dir=root / "val", coco_root=""
    )
    records = ensure_mindrecord(config, "val")
    truth = evaluation.read_ground_truth(config, records)
    summary, detections = evaluation.evaluate(
        _run(_Oracle(records.records), config), config, records, truth
    )
    assert detections.image_ids == [str(i) for i in range(NUM_VAL)]
    assert summary.ap == pytest.approx(1.0)


def _text_file(config, path):
    path.write_text("no weights\n" * 100)
    return config.replace(checkpoint_path=str(path))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c, p: c.replace(checkpoint_path=""), "checkpoint_path is empty"),
        (lambda c, p: c.replace(checkpoint_path=str(p / "no.ckpt")), "no such file"),
        (lambda c, p: c.replace(checkpoint_path=str(p)), "a folder"),
        (lambda c, p: _text_file(c, p / "text.ckpt"), "not a MindSpore checkpoint"),
        (lambda c, p: c.replace(backbone="resnet_v1_101"), "trained with backbone"),
        (lambda c, p: c.replace(box_convention="modern"), "trained with box_convention"),
        (lambda c, p: c.replace(coco_classes=("cat", "fox"), num_classes=None), "trained on 3"),
        (lambda c, p: c.replace(coco_classes=("cat", "fox", "dog")), "in its order"),
        (lambda c, p: c.replace(coco_classes=("cat", "dog", "owl")), "owl"),
        (lambda c, p: c.replace(anno_path=str(p / "no.json")), "no.json"),
        (lambda c, p: c.replace(result_file=str(p / "detector.ckpt" / "r.json")), "cannot write"),
    ],
)
def test_what_cannot_be_evaluated(setting, tmp_path, change, message):
    with pytest.raises(UserError, match=message) as raised:
        evaluation.run_evaluation(change(setting(), tmp_path))
    assert "\n" not in str(raised.value)


def _rewritten(root, tmp_path, change):
    """The validation annotations, changed, as `anno_path`."""
    data = json.loads((root / "annotations" / "instances_val.json").read_text())
    change(data)
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(data))
    return str(path)


def test_a_file_without_annotations_gives_results_alone(setting, root, tmp_path, capsys):
    config = setting(anno_path=_rewritten(root, tmp_path, lambda d: d.pop("annotations")))
    assert evaluation.run_evaluation(config) == 0
    out = capsys.readouterr().out
    assert "changed.json has no box to judge by: no numbers" in out and "Average" not in out
    results = json.loads(evaluation.result_path_of(config).read_text())
    assert {result["image_id"] for result in results} == set(VAL_IDS)


def test_whole_ids_are_ids_however_they_are_written(setting, root, tmp_path, capsys):
    def change(data):
        for entry in (*data["images"], *data["categories"]):
            entry["id"] = float(entry["id"])

    assert evaluation.run_evaluation(setting()) == 0
    expected = [line for line in capsys.readouterr().out.splitlines() if "Average" in line]
    config = setting(anno_path=_rewritten(root, tmp_path, change))
    assert evaluation.run_evaluation(config) == 0
    found = [line for line in capsys.readouterr().out.splitlines() if "Average" in line]
    assert found == expected and len(found) == 12
    results = json.loads(evaluation.result_path_of(config).read_text())
    assert all(type(result["image_id"]) is int for result in results)


def test_a_class_without_a_category_is_not_judged(setting, root, tmp_path, capsys):
    def change(data):
        last = data["categories"].pop()["id"]
        data["annotations"] = [a for a in data["annotations"] if a["category_id"] != last]

    config = setting(anno_path=_rewritten(root, tmp_path, change))
    assert evaluation.run_evaluation(config) == 0
    out = capsys.readouterr().out
    assert "changed.json has no category named" in out and '{"id": ..., "name": "' in out
