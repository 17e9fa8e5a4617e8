"""The command line, a function for each command.

Each command imports what it needs when it runs, so that listing answers at once. Exit codes: 2 for bad
usage, 1 for a failure.
"""

from __future__ import annotations

import errno
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from zoo.errors import ZooError


class Commands(click.Group):
    """Prints what a user can act on without a traceback, unless --debug asks for it."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except (ZooError, OSError) as error:
            # A reader that has had enough, as head, is Click's to handle.
            if context.params.get("debug") or getattr(error, "errno", 0) == errno.EPIPE:
                raise
            click.echo(f"error: {_told(error)}", err=True)
            context.exit(1)


def _told(error: Exception) -> str:
    """As `No space left on device: "models/1"` of what the system says."""
    place = getattr(error, "filename", None)
    return f"{getattr(error, 'strerror', None) or error}" + (f': "{place}"' if place else "")


as_json = click.option("--json", "as_json", is_flag=True, help="Print the data as JSON.")
recipe_option = click.option(
    "--recipe", help="linear, fast (default), full, scratch, or the recipe.json of an earlier run."
)
set_option = click.option(
    "--set", "settings", multiple=True, metavar="FIELD=VALUE", help="Change a field of the recipe."
)

pictures_argument = click.argument(
    "images", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path)
)
top_option = click.option(
    "--top", type=click.IntRange(1), default=5, show_default=True, help="How many classes to name."
)


def _several(context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    """("onnx,h5", "keras") -> onnx, h5, keras: an option that may be said again, too."""
    return tuple(name.strip() for text in given for name in text.split(","))


def _networks(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """What a shell completes to: names of networks, of weights once there is a dot, else files."""
    from zoo.registry import list_models

    names = list_models(f"{begun}*", pretrained="." in begun or None)
    return [CompletionItem("", type="file"), *map(CompletionItem, names)]


PORT, SHARE = click.IntRange(0, 65535), click.FloatRange(0, 1, max_open=True)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of a failure.")
@click.version_option(package_name="cnn-zoo")
def main(debug: bool) -> None:
    """From a network's name to a served endpoint."""


@main.command("list")
@click.argument("pattern", default="*")
@click.option("--pretrained", is_flag=True, help="Name every set of public weights.")
@click.option("--family", help="Only this family.")
@click.option("--year", type=int, help="Only architectures published in this year.")
@click.option("--max-params", type=int, help="At most so many parameters.")
@click.option("--max-macs", type=int, help="At most so many multiply-adds for one picture.")
@click.option("--min-accuracy", type=float, help="At least this top-1 on ImageNet-1k, in percent.")
@click.option("--licence", help="With weights under this licence, for instance apache-2.0.")
@as_json
def list_(pattern: str, pretrained: bool, as_json: bool, **filters: Any) -> None:
    """List the networks that match PATTERN: a table in a terminal, else their names, one on each line.

    Example: zoo list "*net*" --max-params 10000000
    """
    from zoo.registry import list_models
    from zoo_cli.cards import listed, table_text

    names = list_models(pattern, pretrained=pretrained or None, **filters)
    if not names:
        wider = f"*{pattern.strip('*')}*"
        found = len(list_models(wider, pretrained=pretrained or None, **filters))
        hint = f'"{wider}" matches {found}' if found else '"zoo list" names all'
        raise ZooError(f'no network matches "{pattern}" and the filters; {hint}')
    if as_json:
        click.echo(json.dumps(listed(names), indent=2))
    elif sys.stdout.isatty():
        click.echo(table_text(listed(names)))
    else:
        click.echo("\n".join(names))


@main.command()
@click.argument("name", shell_complete=_networks)
@as_json
def describe(name: str, as_json: bool) -> None:
    """Show the card of a network: paper, size, cost, weights and their licences.

    Example: zoo describe resnet50.a1_in1k
    """
    from zoo.registry import describe as card_of
    from zoo_cli.cards import card_text

    card = card_of(name)
    click.echo(json.dumps(asdict(card), indent=2) if as_json else card_text(card))


@main.command("fine-tune")
@click.argument("name", shell_complete=_networks)
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder for the model, its report and checkpoints.",
)
@recipe_option
@set_option
@click.option("--epochs", type=click.IntRange(1), help="At most so many epochs of the network's top.")
@click.option("--input-size", type=click.IntRange(1), help="Pixels per side; the weights' own by default.")
@click.option("--batch-size", type=click.IntRange(1), help="Pictures in a step.")
@click.option("--seed", type=int, help="Of the split, the order and the changes of the pictures.")
@click.option("--teacher", help="A name, file or folder of a model of the same classes, to learn from, too.")
@click.option(
    "--unlabelled",
    type=click.Path(exists=True, path_type=Path),
    help="Folder of pictures that the teacher labels, to learn from, too.",
)
@click.option("--callback", "callbacks", multiple=True, help="tensorboard or csv: written into --out.")
@click.option(
    "--checkpoint-minutes", default=10.0, show_default=True, help="Between checkpoints within an epoch."
)
@as_json
def fine_tune(
    name: str,
    data: Path,
    out: Path,
    recipe: str | None,
    settings: tuple[str, ...],
    teacher: str | None,
    unlabelled: Path | None,
    callbacks: tuple[str, ...],
    checkpoint_minutes: float,
    as_json: bool,
    **fields: Any,
) -> None:
    """Fine-tune network NAME on DATA: a folder with a folder of pictures per class, a CSV, or TFRecord files.

    Example: zoo fine-tune efficientnet pictures/ --out flowers/ --recipe full --set mixup=0
    """
    _load_tensorflow()
    import zoo
    from zoo.training.recipe import resolve
    from zoo_cli.recipes import changes_of, headline, recipe_text

    given = {name: value for name, value in fields.items() if value is not None}
    if teacher is not None:
        given["teacher"] = teacher
    resolved = resolve(recipe, unlabelled=unlabelled is not None, **given | changes_of(settings))
    click.echo(recipe_text(resolved), err=True)
    result = zoo.fine_tune(
        name,
        data,
        out=out,
        recipe=resolved,
        unlabelled=unlabelled,
        callbacks=callbacks,
        checkpoint_minutes=checkpoint_minutes,
    )
    report = result.report()
    if as_json:
        click.echo(
            json.dumps({"metrics": result.metrics, "model": str(out / "model.keras"), "report": str(report)})
        )
    else:
        click.echo(headline(result))
        click.echo(f"model   {out / 'model.keras'}")
        click.echo(f"report  {report}")


@main.command()
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.option("--out", default="views.png", show_default=True, type=click.Path(path_type=Path))
@recipe_option
@set_option
@click.option("--network", default="efficientnet", show_default=True, help="For the size of its pictures.")
@click.option("--pictures", default=6, show_default=True, help="Rows.")
@click.option("--views", default=7, show_default=True, help="Columns.")
def augment(data: Path, out: Path, recipe: str | None, settings: tuple[str, ...], **options: Any) -> None:
    """Show the pictures DATA as a network will see them while it learns: a PNG, a row for each picture.

    Example: zoo augment pictures/ --recipe full --set flip=true --out views.png
    """
    import zoo

    _load_tensorflow()
    from zoo_cli.recipes import changes_of

    click.echo(zoo.show_views(data, out, recipe, **options, **changes_of(settings)))


@main.command("find-rate")
@click.argument("name", shell_complete=_networks)
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.option("--out", default="rate.png", show_default=True, type=click.Path(path_type=Path))
@recipe_option
@set_option
@as_json
def find_rate(
    name: str, data: Path, out: Path, recipe: str | None, settings: tuple[str, ...], as_json: bool
) -> None:
    """Find the learning rate for network NAME on the pictures DATA: a plot of loss over rate.

    Example: zoo find-rate efficientnet pictures/ --out rate.png
    """
    _load_tensorflow()
    import zoo
    from zoo_cli.recipes import changes_of

    found = zoo.find_rate(name, data, out, recipe=recipe, **changes_of(settings))
    if as_json:
        curve = {"rates": found.rates.tolist(), "losses": found.losses.tolist()}
        click.echo(json.dumps({"suggested": found.suggested, "plot": str(out), **curve}))
    else:
        click.echo(f"suggested rate {found.suggested:.1e}\nplot           {out}")


@main.command()
@click.argument("names", nargs=-1, required=True, shell_complete=_networks)
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the search.")
@click.option(
    "--trials", type=click.IntRange(1), default=20, show_default=True, help="How many fine-tunings."
)
@click.option("--minutes", type=click.FloatRange(0), help="After so many, no new trial begins.")
@click.option(
    "--try",
    "tried",
    multiple=True,
    metavar="FIELD=LOW:HIGH",
    help="What to try of a field of the recipe; or FIELD=CHOICE,CHOICE.",
)
@recipe_option
@set_option
@as_json
def search(
    names: tuple[str, ...],
    data: Path,
    out: Path,
    trials: int,
    minutes: float | None,
    tried: tuple[str, ...],
    recipe: str | None,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Fine-tune one or several networks, NAMES, on DATA again and again, and keep what validates best.

    Example: zoo search efficientnet resnet18 pictures/ --out search/ --try rate=0.0001:0.01
    """
    _load_tensorflow()
    import zoo
    from zoo_cli.recipes import changes_of, headline, space_of, trials_text

    changes = changes_of(settings)
    found = zoo.search(
        list(names),
        data,
        out,
        space=space_of(tried),
        trials=trials,
        minutes=minutes,
        recipe=recipe,
        **changes,
    )
    model = (found.best.out or out) / "model.keras"
    if as_json:
        click.echo(json.dumps({"trials": found.trials, "metrics": found.best.metrics, "model": str(model)}))
    else:
        click.echo(trials_text(found.trials))
        click.echo(f"{headline(found.best)}\nmodel  {model}\nplot   {out / 'trials.png'}")


@main.command()
@click.argument("model", shell_complete=_networks)
@pictures_argument
@top_option
@as_json
def classify(model: str, images: tuple[Path, ...], top: int, as_json: bool) -> None:
    """Tell what MODEL (a name, a file or a fine-tuned folder) sees in IMAGES: files, or folders of them.

    Example: zoo classify flowers/ rose.jpg heap/
    """
    from zoo_cli.answers import pictures_of, show

    pictures = pictures_of(images)
    _load_tensorflow()
    from zoo.classifying import each

    show(dict(zip(pictures, each(model, pictures, top), strict=True)), as_json)


@main.command()
@click.argument("model", shell_complete=_networks)
@click.argument("data", type=click.Path(path_type=Path))
@as_json
def evaluate(model: str, data: Path, as_json: bool) -> None:
    """Judge MODEL (a name, a file or a fine-tuned folder) on the labelled pictures DATA.

    Example: zoo evaluate flowers/ pictures/
    """
    import zoo
    from zoo_cli.cards import evaluation_text

    _load_tensorflow()
    judged = zoo.evaluate(model, data)
    if as_json:
        click.echo(json.dumps({"metrics": judged.metrics, "seconds": judged.seconds}))
    else:
        click.echo(evaluation_text(judged))


@main.command()
@click.argument("model", shell_complete=_networks)
@click.argument("image", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", default="explanation.png", show_default=True, type=click.Path(path_type=Path))
@click.option(
    "--methods",
    multiple=True,
    callback=_several,
    default=("gradcam", "integrated_gradients", "occlusion"),
    show_default=True,
    help="Comma-separated, of gradcam, gradcam++, layercam, saliency, integrated_gradients, occlusion.",
)
@click.option("--label", help="The class to look for; the model's first answer by default.")
def explain(model: str, image: Path, out: Path, methods: tuple[str, ...], label: str | None) -> None:
    """Show where in IMAGE the MODEL sees its answer: a PNG of heat maps.

    Example: zoo explain flowers/ rose.jpg --out rose.png
    """
    import zoo

    _load_tensorflow()
    shown = zoo.explain(zoo.load(model), image, methods, label=label)
    click.echo(f"{shown.label} {shown.probability:.3f}\n{shown.save(out)}")


@main.command()
@click.argument("first", shell_complete=_networks)
@click.argument("second", shell_complete=_networks)
@click.argument("data", type=click.Path(path_type=Path))
@as_json
def compare(first: str, second: str, data: Path, as_json: bool) -> None:
    """Is model SECOND better than FIRST on the labelled pictures DATA, or is it chance?

    Example: zoo compare flowers/ more-flowers/ pictures/
    """
    import zoo
    from zoo_cli.cards import comparison_text

    _load_tensorflow()
    one, other = (zoo.evaluate(model, data) for model in (first, second))
    compared = zoo.compare(one, other)
    click.echo(json.dumps(asdict(compared)) if as_json else comparison_text(one, other, compared))


@main.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--validation", type=SHARE, default=0.15, show_default=True, help="The share that stops a training."
)
@click.option("--test", type=SHARE, default=0.15, show_default=True, help="The share that judges it.")
def records(data: Path, out: Path, validation: float, test: float) -> None:
    """Write the labelled pictures DATA as TFRecord files into the new folder OUT, split by content.

    Example: zoo records pictures/ records/
    """
    _load_tensorflow()
    from zoo.data import open_data, split, write_records

    pictures = open_data(data)
    files = write_records(pictures, split(pictures, validation, test), out)
    click.echo("\n".join(map(str, files)))


@main.command()
@click.argument("model", shell_complete=_networks)
@click.argument("base", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "--formats",
    "formats",
    multiple=True,
    callback=_several,
    default=("saved_model", "onnx", "h5"),
    show_default=True,
    help="Comma-separated: saved_model, onnx, onnx_any_size, onnx_pictures, onnx_int8, h5, keras, tflite, "
    "tflite_float16, tflite_dynamic, tflite_int8, openvino.",
)
@click.option(
    "--pictures",
    type=click.Path(exists=True, file_okay=False),
    help="Compare on these; with a folder for each class, accuracy too.",
)
@click.option(
    "--calibrate",
    type=click.Path(exists=True, file_okay=False),
    help="Pictures that the int8 formats are calibrated with.",
)
@click.option(
    "--quantize",
    type=click.Choice(["int8", "float16", "dynamic"]),
    help="Beside onnx and tflite, their files in int8, float16 or dynamic int8.",
)
@click.option(
    "--batch",
    type=click.IntRange(1),
    help="How many pictures the files of ONNX, TFLite and OpenVINO take at a time; any number by default.",
)
@click.option(
    "--temperature",
    help="Divide the logits by this number, or by the one that was 'fitted' in fine-tuning.",
)
@click.option(
    "--tolerance", multiple=True, help="1e-5 for formats in float32, or FORMAT=NUMBER, instead of the limits."
)
@as_json
def export(
    model: str,
    base: Path,
    formats: tuple[str, ...],
    pictures: str | None,
    calibrate: str | None,
    quantize: str | None,
    batch: int | None,
    temperature: str | None,
    tolerance: tuple[str, ...],
    as_json: bool,
) -> None:
    """Export MODEL (a name, a file or a fine-tuned folder) to the directory BASE, each format proven equal.

    Example: zoo export flowers/ models/flowers --quantize int8 --calibrate pictures/
    """
    import exporters
    import zoo
    from zoo_cli.exports import calibrated, export_text, tolerance_of, with_quantized

    limits = tolerance_of(tolerance)
    _load_tensorflow()
    done = exporters.export(
        calibrated(zoo.load(model), temperature),
        base,
        formats=with_quantized(formats, quantize),
        pictures=pictures,
        calibrate=calibrate,
        tolerance=limits,
        batch=batch,
    )
    click.echo(json.dumps(asdict(done), default=str) if as_json else export_text(done))


@main.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--pictures", type=click.Path(exists=True, file_okay=False), help="Compare on these, not generated ones."
)
@as_json
def check(folder: Path, pictures: str | None, as_json: bool) -> None:
    """Verify the published version FOLDER (or all of a model's): hashes, then each file by its own runtime.

    Example: zoo check models/flowers
    """
    import exporters
    from zoo_cli.files import checked_data, checked_text

    _load_tensorflow()
    found = exporters.check(folder, pictures)
    click.echo(json.dumps(checked_data(found)) if as_json else "\n".join(map(checked_text, found)))
    if any(one.problems for one in found):
        click.get_current_context().exit(1)


@main.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@as_json
def inspect(path: Path, as_json: bool) -> None:
    """Show what the model file or folder PATH holds: signatures, shapes, labels, card.

    Example: zoo inspect models/flowers/1/model.onnx
    """
    import exporters
    from zoo_cli.files import inspected_text

    _load_tensorflow()
    found = exporters.inspect(path)
    click.echo(json.dumps(asdict(found), default=str) if as_json else inspected_text(found))


@main.command()
@click.argument("models", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 to be reached from elsewhere.")
@click.option("--grpc-port", type=PORT, default=8500, show_default=True, help="0: any that is free.")
@click.option("--rest-port", type=PORT, default=8501, show_default=True, help="0: any that is free.")
@click.option(
    "--runtime",
    type=click.Choice(["onnx", "tensorflow", "litert", "openvino"]),
    help="By default the fastest whose numbers agree with the model's.",
)
@click.option(
    "--fidelity",
    type=click.Choice(["exact", "bf16", "int8"]),
    default="exact",
    show_default=True,
    help="How near they must be; bf16 and int8 admit faster files.",
)
@click.option("--access-log", is_flag=True, help="Write a line of JSON per request.")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes that share the ports and processors.",
)
def serve(models: tuple[Path, ...], runtime: str | None, **options: Any) -> None:
    """Serve model directories until interrupted.

    Example: zoo serve models/flowers
    """
    from serving.server import log_to_stderr
    from serving.server import serve as run

    log_to_stderr()
    run(models, runtime=runtime, **options)


@main.command()
@click.argument("models", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--to", "engine", required=True, type=click.Choice(["docker", "docker-zoo", "kserve", "ray"]))
@click.option("--host", help="docker, docker-zoo, ray: the address to listen on; 127.0.0.1 by default.")
@click.option("--grpc-port", type=click.IntRange(1, 65535), help="docker, docker-zoo, ray: 8500 by default.")
@click.option("--rest-port", type=click.IntRange(1, 65535), help="docker, docker-zoo, ray: 8501 by default.")
@click.option("--storage", metavar="URI", help="kserve: where the cluster finds copies of the folders.")
def deploy(models: tuple[Path, ...], engine: str, storage: str | None, **places: Any) -> None:
    """Print the file by which an engine serves model directories: Docker's and KServe's TensorFlow Serving
    their SavedModels, docker-zoo and Ray our own server. Its first lines tell how to start it.

    Example: zoo deploy models/flowers --to docker > compose.yaml
    """
    given = {name: value for name, value in places.items() if value is not None}
    if engine == "kserve":
        from serving.deployment.kserve import manifest

        if given or not storage:
            raise click.UsageError("--to kserve takes --storage, as s3://bucket/models, and no host or ports")
        click.echo(manifest(models, storage), nl=False)
        return
    if storage:
        raise click.UsageError(f"--to {engine} takes no --storage: it serves the folders themselves")
    from serving.deployment import docker, ray

    writers = {"docker": docker.compose, "docker-zoo": docker.compose_zoo, "ray": ray.config}
    click.echo(writers[engine](models, **given), nl=False)


@main.command()
@click.argument("address")
@click.argument("model")
@pictures_argument
@top_option
@as_json
def predict(address: str, model: str, images: tuple[Path, ...], top: int, as_json: bool) -> None:
    """Ask the server at ADDRESS (gRPC, host:port) what MODEL sees in IMAGES: files, or folders of them.

    Example: zoo predict 127.0.0.1:8500 flowers rose.jpg
    """
    from serving import Client
    from zoo_cli.answers import answered, pictures_of, show

    with Client(address) as client:
        found = answered(lambda pictures: client.classify(model, pictures, top=top), pictures_of(images))
    show(found, as_json)


@main.command()
@click.option("--out", default="demo-output", show_default=True, type=click.Path(path_type=Path))
def demo(out: Path) -> None:
    """Go the whole way on real pictures: name a photo, fine-tune, export, serve, call.

    Example: zoo demo --out /tmp/demo
    """
    from zoo_cli.demo import run

    _load_tensorflow()
    run(out)


def _load_tensorflow() -> None:
    """Without its start-up notices, unless --debug asks for all there is."""
    if not click.get_current_context().find_root().params["debug"]:
        from zoo_cli.quiet import import_tensorflow

        import_tensorflow()


if __name__ == "__main__":
    sys.exit(main())
