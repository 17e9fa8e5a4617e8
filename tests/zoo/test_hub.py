"""Modules of TensorFlow Hub as Classifiers, from folders and from a server that answers as the hub does."""

import gzip
import hashlib
import io
import json
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import zoo
from zoo.labels import imagenet_labels
from zoo.weights import archives

SIZE = 32


def network(outputs: int | None) -> keras.Model:
    keras.utils.set_random_seed(0)
    images = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(8, 3, 2, use_bias=False)(images)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.5)(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, keras.layers.Dense(outputs)(x) if outputs else x)


def publish(folder: Path, outputs: int | None = None, size: int | None = SIZE) -> keras.Model:
    """As the hub's publishers write image modules: reusable, traced for both modes, with a penalty."""
    net = network(outputs)
    spec = tf.TensorSpec((None, size, size, 3), tf.float32, name="inputs")

    @tf.function
    def call(inputs, training=False, batch_norm_momentum=0.99):
        return net(inputs, training=training)

    @tf.function(input_signature=[])
    def penalty():
        return 0.25 * tf.reduce_sum(net.trainable_variables[0].value ** 2)

    for training in (False, True):
        call.get_concrete_function(spec, training=training)
    module = tf.train.Checkpoint()
    setattr(module, "__call__", call)  # noqa: B010
    module.variables = [variable.value for variable in net.variables]
    module.trainable_variables = [variable.value for variable in net.trainable_variables]
    module.regularization_losses = [penalty]
    module.serving = tf.function(lambda inputs: {"default": call(inputs)}, input_signature=[spec])
    tf.saved_model.save(module, str(folder), {"serving_default": module.serving})
    return net


@pytest.fixture(scope="module")
def vectors(tmp_path_factory) -> SimpleNamespace:
    """A published feature vector, 8 numbers for each picture."""
    folder = tmp_path_factory.mktemp("hub") / "vectors"
    return SimpleNamespace(folder=folder, net=publish(folder))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    for name in ("TFHUB_CACHE_DIR", "ZOO_OFFLINE", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "cache"


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (6, SIZE, SIZE, 3)).astype(np.float32)


@pytest.fixture
def hub(tmp_path):
    """A hub: an address answers with a redirect to its archive, if asked for the compressed format."""
    archives_by_path: dict[str, bytes] = {}
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            address = urlsplit(self.path)
            asked.append(self.path)
            stored = address.path.startswith("/storage")
            if not stored and parse_qs(address.query).get("tf-hub-format") == ["compressed"]:
                self.send_response(302)
                self.send_header("Location", f"/storage{address.path}")
                self.end_headers()
                return
            body = archives_by_path.get(address.path.removeprefix("/storage")) if stored else None
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    yield SimpleNamespace(url=url, archives=archives_by_path, asked=asked)
    server.shutdown()
    thread.join()
    server.server_close()


def packed(folder: Path) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        archive.add(folder, arcname="./")
    return data.getvalue()


def with_member(name: str, content: bytes = b"x", **attributes) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        for key, value in attributes.items():
            setattr(member, key, value)
        archive.addfile(member, io.BytesIO(content))
    return data.getvalue()


def test_a_feature_vector_gets_a_head(vectors, images):
    model = zoo.load(f"hub:{vectors.folder}", classes=["daisy", "rose", "tulip"])
    assert model.zoo.labels == ("daisy", "rose", "tulip")
    assert model.zoo.preprocessing.input_size == (SIZE, SIZE)
    assert model(images).shape == (6, 3)
    features = zoo.heads(model)(images)["features"]
    np.testing.assert_allclose(features, vectors.net(images / 255), atol=1e-5)


def test_without_classes_a_classifier_keeps_its_own(tmp_path, images):
    net = publish(tmp_path / "classifier", outputs=1001)
    model = zoo.load(f"hub:{tmp_path / 'classifier'}")
    assert model.zoo.labels == ("background", *imagenet_labels())
    np.testing.assert_allclose(model(images), keras.ops.softmax(net(images / 255)), atol=1e-6)
    logits = zoo.load(f"hub:{tmp_path / 'classifier'}", classifier_activation=None)
    np.testing.assert_allclose(logits(images), net(images / 255), atol=1e-5)


@pytest.mark.parametrize("trainable", [True, False])
def test_training_moves_the_module_and_its_statistics(vectors, images, trainable):
    model = zoo.load(f"hub:{vectors.folder}", classes=3, drop_rate=0.1)
    model.get_layer("module").trainable = trainable
    before = [np.array(variable) for variable in model.weights]
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(images, np.array([0, 1, 2, 0, 1, 2]), verbose=0)
    names = [variable.path for variable in model.weights]
    moved = {
        name: not np.array_equal(a, b) for name, a, b in zip(names, before, model.get_weights(), strict=True)
    }
    inside = {name: value for name, value in moved.items() if not name.startswith("classifier")}
    assert len(inside) == 5
    assert set(inside.values()) == {trainable}
    assert moved["classifier/kernel"]


def test_the_modules_penalty_counts(vectors, images):
    model = zoo.load(f"hub:{vectors.folder}", classes=3)
    module = model.get_layer("module")
    module(images / 255, training=True)
    kernel = np.array(module.trainable_variables[0])
    np.testing.assert_allclose(module.losses[0], 0.25 * np.sum(kernel**2), rtol=1e-5)


def test_fine_tuning_learns_and_the_folder_loads_again(vectors, tmp_path):
    random = np.random.default_rng(1)
    for name, colour in (("red", (200, 40, 40)), ("blue", (40, 40, 200))):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(12):
            pixels = np.clip(random.normal(colour, 30, (40, 40, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{i}.png")
    result = zoo.fine_tune(
        f"hub:{vectors.folder}", tmp_path / "pictures", tmp_path / "out", epochs=2, top=1.0, batch_size=8
    )
    assert {entry["stage"] for entry in result.history} == {"head", "top"}
    losses = [entry["val_loss"] for entry in result.history]
    assert min(losses) < losses[0]
    assert result.model.zoo.labels == ("blue", "red")
    again = zoo.load(tmp_path / "out")
    pixels = random.uniform(0, 255, (2, SIZE, SIZE, 3)).astype(np.float32)
    np.testing.assert_allclose(again(pixels), result.model(pixels), atol=1e-6)


def test_a_module_without_training_serves_as_it_is(tmp_path, images):
    net = network(None)
    module = tf.train.Checkpoint()
    spec = tf.TensorSpec((None, SIZE, SIZE, 3), tf.float32)
    setattr(module, "__call__", tf.function(lambda inputs: net(inputs), input_signature=[spec]))  # noqa: B010
    module.variables = [variable.value for variable in net.variables]
    tf.saved_model.save(module, str(tmp_path / "fixed"))
    model = zoo.load(f"hub:{tmp_path / 'fixed'}", classes=2)
    vectors = model.get_layer("module")
    np.testing.assert_allclose(vectors(images / 255, training=True), net(images / 255), atol=1e-5)


def test_sizes(vectors, tmp_path):
    with pytest.raises(zoo.ZooError, match="takes pictures of 32 x 32 pixels, not 64 x 64"):
        zoo.load(f"hub:{vectors.folder}", classes=3, input_size=64)
    publish(tmp_path / "any", size=None)
    assert zoo.load(f"hub:{tmp_path / 'any'}", classes=3).zoo.preprocessing.input_size == (224, 224)
    model = zoo.load(f"hub:{tmp_path / 'any'}", classes=3, input_size=(40, 48))
    assert model(np.zeros((1, 40, 48, 3))).shape == (1, 3)
    free = zoo.load(f"hub:{tmp_path / 'any'}", classes=3, input_size=(None, None))
    assert free.zoo.preprocessing.input_size == (224, 224)
    assert free(np.zeros((1, 40, 48, 3))).shape == free(np.zeros((1, 56, 32, 3))).shape == (1, 3)
    with pytest.raises(zoo.ZooError, match="takes pictures of 32 x 32 pixels, not any"):
        zoo.load(f"hub:{vectors.folder}", classes=3, input_size=(None, None))


def test_a_handle_is_downloaded_once_into_the_hubs_own_cache(hub, vectors, tmp_path, monkeypatch, images):
    hub.archives["/google/vectors/2"] = packed(vectors.folder)
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "hubs"))
    handle = f"{hub.url}/google/vectors/2"
    model = zoo.load(f"hub:{handle}", classes=3)
    assert hub.asked == [
        "/google/vectors/2?tf-hub-format=compressed",
        "/storage/google/vectors/2",
    ]
    folder = tmp_path / "hubs" / hashlib.sha1(handle.encode()).hexdigest()
    assert sorted(path.name for path in folder.parent.iterdir()) == [
        folder.name,
        f"{folder.name}.descriptor.txt",
    ]
    assert model.name == "google_vectors_2"
    import tensorflow_hub

    assert tensorflow_hub.resolve(handle) == str(folder)
    np.testing.assert_allclose(
        zoo.heads(zoo.load(f"hub:{handle}", classes=3))(images)["features"],
        zoo.heads(model)(images)["features"],
    )
    assert len(hub.asked) == 2


def test_what_tensorflow_hub_has_downloaded_is_used(hub, vectors, tmp_path, monkeypatch):
    import tensorflow_hub

    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "hubs"))
    hub.archives["/vectors.tar.gz"] = packed(vectors.folder)
    tensorflow_hub.resolve(f"{hub.url}/vectors.tar.gz")
    hub.archives.clear()
    assert zoo.load(f"hub:{hub.url}/vectors.tar.gz", classes=3).name == "vectors"


def test_without_the_hubs_variable_the_zoos_cache_is_used(hub, vectors, own_cache):
    hub.archives["/v/1"] = packed(vectors.folder)
    zoo.load(f"hub:{hub.url}/v/1?x=1", classes=3)
    folder = hashlib.sha1(f"{hub.url}/v/1?x=1".encode()).hexdigest()
    assert (own_cache / "hub" / folder / "saved_model.pb").is_file()
    assert hub.asked[0] == "/v/1?x=1&tf-hub-format=compressed"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (with_member("../escaped"), "outside the destination"),
        (with_member("a/../../escaped"), "outside the destination"),
        (with_member("link", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"), '"link" in it is a link'),
        (with_member("hard", b"", type=tarfile.LNKTYPE, linkname="x"), '"hard" in it is a link'),
        (with_member("pipe", b"", type=tarfile.FIFOTYPE), '"pipe" in it is a link, a device'),
        (with_member("big", bytes(65 << 20)), "unpacks to more than 67108864 bytes"),
        (with_member("x", pax_headers={"comment": "y" * (3 << 20)}), "headers are larger than its files"),
        (gzip.compress(b"no archive" * 100), "not a sound .tar.gz archive"),
        (packed.__doc__ or b"plain text", "not a sound .tar.gz archive: Not a gzipped file"),
        (with_member("model/saved_model.pb")[:-20], "not a sound .tar.gz archive"),
    ],
    ids=[
        "parent",
        "detour",
        "symbolic link",
        "hard link",
        "pipe",
        "bomb",
        "headers",
        "gzip alone",
        "plain text",
        "cut",
    ],
)
def test_hostile_and_damaged_archives_are_refused(hub, tmp_path, own_cache, content, message):
    hub.archives["/m/1"] = content
    with pytest.raises(zoo.WeightsError, match=message):
        zoo.load(f"hub:{hub.url}/m/1", classes=3)
    assert list((own_cache / "hub").iterdir()) == []
    assert not list(tmp_path.rglob("escaped"))


def test_too_many_members_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MEMBERS", 3)
    with tarfile.open(tmp_path / "many.tar.gz", "w:gz") as archive:
        for i in range(4):
            archive.addfile(tarfile.TarInfo(str(i)))
    (tmp_path / "out").mkdir()
    with pytest.raises(zoo.WeightsError, match="or 3 files"):
        archives.extract(tmp_path / "many.tar.gz", tmp_path / "out")


def test_a_missing_address_is_named(hub, own_cache):
    with pytest.raises(zoo.DownloadError, match=rf"{hub.url}/nothing/1.*the server answered 404"):
        zoo.load(f"hub:{hub.url}/nothing/1", classes=3)


def folder_with(tmp_path: Path, *names: str) -> Path:
    for name in names:
        (tmp_path / name).write_bytes(b"\x0a\x02xx")
    return tmp_path


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("saved_model.pb", "tfhub_module.pb"), "is in the TF1 Hub format .tfhub_module.pb."),
        (("variables.index",), "holds no saved_model.pb: it is no TF2 SavedModel"),
        (("saved_model.pb", "card.json"), "was exported by this library; load the model.keras"),
        (("saved_model.pb",), "cannot be loaded: "),
    ],
)
def test_folders_that_are_no_module_are_refused(tmp_path, files, message):
    (tmp_path / "module").mkdir()
    with pytest.raises(zoo.ZooError, match=message):
        zoo.load(f"hub:{folder_with(tmp_path / 'module', *files)}", classes=3)


def test_other_refusals(vectors, tmp_path):
    plain = tf.train.Checkpoint(v=tf.Variable(1.0))
    tf.saved_model.save(plain, str(tmp_path / "plain"))
    pairs = [
        (f"hub:{tmp_path / 'plain'}", {}, "is no reusable TF2 SavedModel: it has no __call__"),
        (f"hub:{tmp_path / 'absent'}", {}, "is not a folder; give a folder with a saved_model.pb"),
        ("hub:gs://bucket/module", {}, "gs:// is not read; download the module and give its folder"),
        (f"hub:{vectors.folder}", {"classes": 0}, "classes must be at least 1, not 0"),
        (f"hub:{vectors.folder}", {"pooling": "max"}, "is a whole network"),
        (f"hub:{vectors.folder}", {"weights": None}, "is a whole network"),
    ]
    for name, options, message in pairs:
        with pytest.raises(zoo.ZooError, match=message):
            zoo.load(name, **options)


def test_a_module_that_gives_maps_is_no_classifier(tmp_path):
    module = tf.train.Checkpoint()
    spec = tf.TensorSpec((None, SIZE, SIZE, 3), tf.float32)
    setattr(module, "__call__", tf.function(lambda inputs: inputs * 2, input_signature=[spec]))  # noqa: B010
    tf.saved_model.save(module, str(tmp_path / "maps"))
    with pytest.raises(zoo.ZooError, match="does not give one vector"):
        zoo.load(f"hub:{tmp_path / 'maps'}", classes=3)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_files_bring_no_graph_that_was_not_loaded_before(vectors, tmp_path, monkeypatch, images, suffix):
    model = zoo.load(f"hub:{vectors.folder}", classes=3)
    zoo.save(model, tmp_path / f"model{suffix}")
    np.testing.assert_allclose(zoo.load(tmp_path / f"model{suffix}")(images), model(images), atol=1e-6)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "elsewhere"))
    with pytest.raises(zoo.ZooError, match=f'if you trust it, zoo.load."hub:{vectors.folder}".'):
        zoo.load(tmp_path / f"model{suffix}")


def test_a_module_that_changed_is_not_taken_for_the_old_one(vectors, tmp_path):
    publish(tmp_path / "module")
    zoo.save(zoo.load(f"hub:{tmp_path / 'module'}", classes=3), tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        assert "saved_model" not in str(json.loads(archive.read("config.json")))
    with (tmp_path / "module" / "saved_model.pb").open("ab") as file:
        file.write(b"\x00")
    with pytest.raises(zoo.ZooError, match="was not loaded here before"):
        zoo.load(tmp_path / "model.keras")
