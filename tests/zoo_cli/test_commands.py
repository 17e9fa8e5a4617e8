"""The command line as a person meets it: in a process of its own, with its exit codes and messages."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

import serving
import zoo
from zoo_cli.main import main

ZOO = Path(sys.executable).with_name("zoo")
PICTURE = Path(__file__).parents[2] / "docs" / "report.png"


def run(*arguments, code=0):
    done = subprocess.run([ZOO, *map(str, arguments)], capture_output=True, text=True, timeout=240)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if code == 0 else done.stderr


def test_list_names_the_networks():
    assert run("list", "resnet??d").split() == ["resnet18d", "resnet26d", "resnet34d", "resnet50d"]
    assert json.loads(run("list", "resnet18.*", "--pretrained", "--json"))[0]["name"] == "resnet18.a1_in1k"


def test_list_filters_and_gives_its_data():
    filters = ("--min-accuracy", 81, "--licence", "apache-2.0", "--max-params", 26_000_000)
    assert {"resnet50", "resnet50d"} <= set(run("list", "resnet*", *filters).split())
    assert "error: no network matches" in run("list", "vgg*", *filters, code=1)
    (row,) = json.loads(run("list", "vgg16", "--min-accuracy", 71, "--json"))
    assert (row["year"], row["parameters"], row["input_size"]) == (2014, 138357544, 224)
    assert row["top1"] == pytest.approx(71.594, abs=0.01)


def test_in_a_terminal_list_is_a_table():
    ours, its = pty.openpty()
    done = subprocess.run(
        [ZOO, "list", "resnet??d"], stdout=its, timeout=60, env=os.environ | {"COLUMNS": "90"}
    )
    os.close(its)
    with os.fdopen(ours, "rb") as screen:
        lines = screen.read1(10_000).decode().splitlines()
    assert done.returncode == 0
    assert [len(lines), "best top-1" in lines[0]] == [5, True]
    assert "resnet50d" in lines[4]
    assert "25.6" in lines[4]


def test_describe_says_that_a_network_has_no_public_weights():
    text = run("describe", "darknet19")
    assert "licence        no public weights" in text
    assert "weights        none" in text
    assert "accuracy       top-1 72.9, top-5 91.2 on ImageNet-1k, the paper, Table 6" in text


def test_describe_shows_the_card():
    text = run("describe", "resnet50.a1_in1k")
    for fact in ("arXiv 1512.03385, 2015", "25,557,032", "4,089,184,256", "apache-2.0"):
        assert fact in text
    assert "top-1 80.382, top-5 94.598 at 224 px; top-1 81.24, top-5 95.112 at 288 px" in text
    assert json.loads(run("describe", "resnet50", "--json"))["parameters"] == 25557032


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("describe", "efficentnet"), 1, 'error: unknown model "efficentnet"; did you mean "efficientnet"?'),
        (("list", "zzz*"), 1, 'no network matches "zzz*" and the filters; "zoo list" names all'),
        (("list", "shvit"), 1, 'no network matches "shvit" and the filters; "*shvit*" matches 4'),
        (("lisst",), 2, "No such command"),
        (("list", "--family", "resnett"), 1, 'error: unknown family "resnett"; did you mean "resnet"?'),
        (("records", ".", "x", "--validation", "2"), 2, "2.0 is not in the range 0<=x<1"),
        (
            ("classify", "efficentnet", __file__),
            1,
            'unknown model "efficentnet"; did you mean "efficientnet"?',
        ),
        (("classify", "efficientnet", __file__), 1, 'test_commands.py" cannot be decoded as a picture'),
        (("classify", "efficientnet", "absent.jpg"), 2, "'absent.jpg' does not exist"),
        (("predict", "127.0.0.1:1", "flowers", __file__, "--top", "0"), 2, "0 is not in the range x>=1"),
        (("serve", ".", "--grpc-port", "99999"), 2, "99999 is not in the range 0<=x<=65535"),
        (("serve", ".", "--grpc-port", "0"), 1, "holds no version (a folder named by a number"),
        (("predict", "127.0.0.1", "flowers", __file__), 1, '"127.0.0.1" names no port: give HOST:PORT'),
        (("predict", "http://127.0.0.1:1", "flowers", __file__), 1, "is no gRPC address: give HOST:PORT"),
        (("deploy", "."), 2, "Missing option '--to'"),
        (("deploy", ".", "--to", "kserve"), 2, "--to kserve takes --storage, as s3://bucket/models"),
        (("deploy", ".", "--to", "kserve", "--storage", "s3://b", "--host", "::"), 2, "and no host or ports"),
        (("deploy", ".", "--to", "ray", "--storage", "s3://b"), 2, "--to ray takes no --storage"),
        (("deploy", ".", "--to", "docker"), 1, "holds no version (a folder named by a number"),
        (("fine-tune", "efficientnet", "absent", "--out", "x"), 2, "'absent' does not exist"),
        (("predict", "127.0.0.1:1", "flowers", PICTURE), 1, "no server answers at 127.0.0.1:1"),
    ],
)
def test_failures_are_named_and_coded(arguments, code, message):
    assert message in run(*arguments, code=code)


@pytest.mark.parametrize("command", sorted(main.commands))
def test_every_command_has_help_with_an_example(command):
    assert "Example: zoo " + command in run(command, "--help")


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("des", {"plain,describe"}),
        ("describe resnet5", {"file,", "plain,resnet50", "plain,resnet50d"}),
        ("export resnet50.a1_", {"file,", "plain,resnet50.a1_in1k"}),
        ("fine-tune efficientnet pic", {"file,pic"}),
    ],
)
def test_a_shell_completes_commands_and_names(words, names):
    asked = {"_ZOO_COMPLETE": "bash_complete", "COMP_WORDS": f"zoo {words}"}
    asked["COMP_CWORD"] = str(len(words.split()))
    done = subprocess.run([ZOO], capture_output=True, text=True, timeout=60, env=os.environ | asked)
    assert names <= set(done.stdout.splitlines())


def test_what_the_system_refuses_is_told_and_a_reader_may_leave(tmp_path):
    file = tmp_path / "file"
    file.touch()
    assert f'error: Not a directory: "{file}/' in run("demo", "--out", file / "demo", code=1)
    assert subprocess.run(f"{ZOO} list | head -1", shell=True, capture_output=True).stderr == b""


def test_debug_shows_the_traceback():
    done = subprocess.run(
        [ZOO, "--debug", "describe", "efficentnet"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr


@pytest.fixture(scope="module")
def model_directory(tmp_path_factory):
    """A network with its real weights, saved, then exported by the command."""
    folder = tmp_path_factory.mktemp("cli")
    zoo.save(zoo.load("efficientnet"), folder / "lite0.keras")
    said = json.loads(
        run("export", folder / "lite0.keras", folder / "models" / "lite0", "--formats", "onnx", "--json")
    )
    assert Path(said["path"]) == folder / "models" / "lite0" / "1"
    return folder / "models" / "lite0"


def test_predict_asks_a_server(model_directory, tmp_path):
    photo, broken = tmp_path / "flower.png", tmp_path / "broken.jpg"
    Image.fromarray(load_sample_images().images[1]).save(photo)
    broken.write_bytes(b"\xff\xd8")
    with serving.deploy(model_directory) as endpoint:
        answers = json.loads(run("predict", endpoint.grpc_address, "lite0", photo, "--top", 3, "--json"))
        assert run("predict", endpoint.grpc_address, "lite0", photo).startswith(f"{photo}: daisy 0.3")
        done = subprocess.run(
            [ZOO, "predict", endpoint.grpc_address, "lite0", tmp_path],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert (done.returncode, len(done.stdout.splitlines())) == (1, 1)
    assert done.stdout.startswith(f"{photo}: daisy 0.3")
    assert done.stderr.startswith(f'error: "{broken}" cannot be decoded as a picture')
    ((label, score), *others) = answers[str(photo)]
    assert (label, len(others)) == ("daisy", 2)
    assert score == pytest.approx(0.323, abs=0.01)


def test_classify_goes_through_folders_and_names_what_is_no_picture(tmp_path):
    flower, palace = tmp_path / "heap" / "flower.png", tmp_path / "heap" / "of" / "palace.png"
    palace.parent.mkdir(parents=True)
    for file, image in zip((palace, flower), load_sample_images().images, strict=True):
        Image.fromarray(image).save(file)
    answers = json.loads(run("classify", "efficientnet", tmp_path / "heap", "--top", 1, "--json"))
    assert {file: label for file, [[label, _]] in answers.items()} == {
        str(flower): "daisy",
        str(palace): "palace",
    }
    broken = tmp_path / "heap" / "broken.jpg"
    broken.write_bytes(b"\xff\xd8")
    done = subprocess.run(
        [ZOO, "classify", "efficientnet", tmp_path / "heap"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert [line.split(" 0.")[0] for line in done.stdout.splitlines()] == [
        f"{flower}: daisy",
        f"{palace}: palace",
    ]
    assert f'error: "{broken}" cannot be decoded' in done.stderr
    broken.rename(tmp_path / "heap" / "of" / "notes.txt")
    flower.unlink()
    palace.unlink()
    assert f'"{tmp_path}/heap" holds no pictures (jpg,' in run(
        "classify", "efficientnet", tmp_path / "heap", code=1
    )


def test_exporting_to_an_unknown_format_names_the_nearest(model_directory):
    message = run("export", "efficientnet", model_directory, "--formats", "onx", code=1)
    assert 'did you mean "onnx"?' in message
    assert [p.name for p in model_directory.iterdir()] == ["1"]
