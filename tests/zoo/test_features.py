"""Backbones: which maps `features` finds in every kind of network, and what `embedder` gives."""

import keras
import numpy as np
import pytest
from sklearn.datasets import load_sample_images

import zoo
from zoo.preprocessing import evaluate
from zoo.registry import resolve

# timm 1.0.31, features_only=True: the channels at strides 2, 4, 8, 16, 32 (0: it has none).
CHANNELS = {
    "caformer_s18": (0, 64, 128, 320, 512),
    "convnext_atto": (0, 40, 80, 160, 320),
    "cspdarknet53": (64, 128, 256, 512, 1024),
    "densenet121": (64, 256, 512, 1024, 1024),
    "dla34": (32, 64, 128, 256, 512),
    "dpn68": (10, 144, 320, 704, 832),
    "edgenext_small_rw": (0, 48, 96, 192, 384),
    "efficientformerv2_s0": (0, 32, 48, 96, 176),
    "efficientnet_b0": (16, 24, 40, 112, 320),
    "efficientnetv2_rw_s": (24, 48, 64, 160, 272),
    "efficientvit_b0": (0, 16, 32, 64, 128),
    "efficientvit_l1": (0, 64, 128, 256, 512),
    "fastvit_t8": (0, 48, 96, 192, 384),
    "hardnet39ds": (48, 96, 320, 640, 1024),
    "hrnet_w18": (64, 128, 256, 512, 1024),
    "inception_v3": (64, 192, 288, 768, 2048),
    "lowformer_b0": (0, 32, 64, 128, 256),
    "mobilenetv1_100": (64, 128, 256, 512, 1024),
    "mobilenetv2_100": (16, 24, 32, 96, 320),
    "mobilenetv3_large_100": (16, 24, 40, 112, 960),
    "mobilenetv4_conv_small": (32, 32, 64, 96, 960),
    "mobilevitv2_050": (32, 64, 128, 192, 256),
    "nasnetalarge": (96, 168, 1008, 2016, 4032),
    "nf_resnet50": (64, 256, 512, 1024, 2048),
    "pnasnet5large": (96, 270, 1080, 2160, 4320),
    "regnetx_002": (32, 24, 56, 152, 368),
    "repvgg_a0": (48, 48, 96, 192, 1280),
    "resnest14d": (64, 256, 512, 1024, 2048),
    "resnet50_clip": (64, 256, 512, 1024, 2048),
    "resnet50": (64, 256, 512, 1024, 2048),
    "resnetv2_50": (64, 256, 512, 1024, 2048),
    "senet154": (128, 256, 512, 1024, 2048),
    "vgg11": (128, 256, 512, 512, 512),
    "xception": (64, 128, 256, 728, 2048),
}


DEEPEST = {"squeezenet": 4, "darknet": 4, "bagnet": 3, "drn": 3}  # others have five halvings
SHALLOWEST = {"visformer": 3}  # where a stem reduces further than by four


def smallest_of_every_builder():
    by_builder = {}
    for name in zoo.list_models():
        architecture, _ = resolve(name)
        by_builder.setdefault((architecture.family, architecture.builder), []).append(architecture)
    return [min(variants, key=lambda a: a.params).name for variants in by_builder.values()]


def without_variables(make, *arguments, **options):
    """The graph alone, for tests of shapes."""
    with keras.StatelessScope(initialize_variables=False):
        return make(*arguments, weights=None, **options)


@pytest.mark.parametrize("name", CHANNELS)
def test_channels_are_those_of_the_reference(name):
    present = {level: c for level, c in enumerate(CHANNELS[name], start=1) if c}
    backbone = without_variables(zoo.features, name, tuple(present))
    assert [x.shape[-1] for x in backbone.outputs] == list(present.values())
    card = zoo.facts(backbone).card["features"]
    assert {facts["level"]: facts["channels"] for facts in card} == present
    assert [facts["reduction"] for facts in card] == [2**level for level in present]


@pytest.mark.parametrize("name", ["convnext_tiny", "hornet_tiny", "rdnet_tiny"])
def test_a_norm_before_a_halving_serves_the_halving_alone(name):
    backbone = without_variables(zoo.features, name, (2, 3, 4))
    layers = [facts["layer"] for facts in zoo.facts(backbone).card["features"]]
    norms = [name for name in layers if isinstance(backbone.get_layer(name), keras.layers.LayerNormalization)]
    assert not norms


@pytest.mark.parametrize("name", smallest_of_every_builder())
def test_every_kind_of_network_has_maps_and_vectors(name):
    architecture, _ = resolve(name)
    side = architecture.macs_size
    shallowest, deepest = SHALLOWEST.get(architecture.family, 2), DEEPEST.get(architecture.family, 5)
    levels = (0, 1, 2) if side < 96 else tuple(range(shallowest, deepest + 1))
    # ConvMixer has one map throughout, of stride 7; LeNet's, without borders, end at one place.
    one_map = name.startswith(("convmixer", "lenet"))
    maps = [] if one_map else without_variables(zoo.features, name, levels).outputs
    for level, x in zip(levels, maps, strict=bool(maps)):
        assert len(x.shape) == 4
        # Networks without borders lose a few pixels at each halving.
        assert x.shape[1] == x.shape[2] == pytest.approx(side / 2**level, abs=4)
    vectors = without_variables(zoo.embedder, name).output
    assert (vectors.shape[0], len(vectors.shape)) == (None, 2)
    assert vectors.dtype == "float32"


def test_an_odd_and_oblong_picture_gives_the_maps_in_the_order_asked_for():
    backbone = zoo.features("resnet18", (5, 2), weights=None, input_size=(97, 130))
    maps = backbone(np.zeros((2, 97, 130, 3), np.float32))
    assert [tuple(x.shape) for x in maps] == [(2, 4, 5, 512), (2, 25, 33, 64)]
    assert [facts["layer"] for facts in backbone.zoo.card["features"]] == ["layer4.1.act", "layer1.1.act"]


def test_pictures_of_any_size_have_the_maps_of_their_size():
    backbone = zoo.features("resnet18", (5, 2), weights=None, input_size=(None, None))
    assert [x.shape for x in backbone.outputs] == [(None, None, None, 512), (None, None, None, 64)]
    for size, sides in (((97, 130), [(4, 5), (25, 33)]), ((64, 320), [(2, 10), (16, 80)])):
        maps = backbone(np.zeros((1, *size, 3), np.float32))
        assert [tuple(x.shape[1:3]) for x in maps] == sides


def test_the_pooled_last_map_is_the_embedding_of_the_pretrained_network():
    backbone, embedder = zoo.features("efficientnet", (4, 5)), zoo.embedder("efficientnet")
    picture = evaluate(embedder.zoo.preprocessing, load_sample_images().images[0])[None].astype("float32")
    vectors = np.asarray(embedder(picture))
    assert vectors.shape == (1, 1280)
    whole = zoo.load("efficientnet")
    expected = np.asarray(zoo.heads(whole)(picture)["features"])
    np.testing.assert_array_equal(vectors, expected)
    by_layer = keras.Model(whole.input, whole.get_layer(backbone.zoo.card["features"][-1]["layer"]).output)
    np.testing.assert_array_equal(np.asarray(backbone(picture)[-1]), np.asarray(by_layer(picture)))


def test_a_fine_tuned_network_has_features_and_vectors_by_the_layers_it_has():
    drawn = np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), np.uint8)
    pictures = [(picture, "ab"[i % 2]) for i, picture in enumerate(drawn)]
    network = zoo.load("resnet18", weights=None, input_size=64)
    learned = zoo.fine_tune(network, pictures, epochs=1, head_epochs=0, views=1).model
    backbone, embedder = zoo.features(learned, (2, 5)), zoo.embedder(learned)
    assert [x.shape[1:] for x in backbone.outputs] == [(16, 16, 64), (2, 2, 512)]
    assert {id(weight) for weight in embedder.weights} < {id(weight) for weight in learned.weights}
    batch = drawn[:2].astype(np.float32)
    kernel, bias = learned.get_layer("fc").get_weights()
    logits = np.asarray(embedder(batch)) @ kernel + bias
    np.testing.assert_allclose(zoo.heads(learned)(batch)["logits"], logits, atol=1e-4)
    assert zoo.facts(backbone).card["features"][1]["channels"] == 512
    with pytest.raises(zoo.ZooError, match="weights and input_size go with a name"):
        zoo.features(learned, input_size=96)


def test_one_level_alone_is_a_list_of_one_map():
    (alone,) = without_variables(zoo.features, "mobilenetv3_small_050", 3).outputs
    assert alone.shape == (None, 28, 28, 16)


def test_a_saved_network_has_features_too(tmp_path):
    path = zoo.save(zoo.load("resnet18", weights=None, classes=3, input_size=64), tmp_path / "own.keras")
    assert [x.shape[-1] for x in zoo.features(path).outputs] == [64, 128, 256, 512]


@pytest.mark.parametrize(
    ("name", "levels", "existing"),
    [
        (
            "convnext_atto",
            (1, 2),
            "levels [1]; it has: 2 (stride 4), 3 (stride 8), 4 (stride 16), 5 (stride 32)",
        ),
        (
            "resnet18",
            (2, 6),
            "levels [6]; it has: 1 (stride 2), 2 (stride 4), 3 (stride 8), 4 (stride 16), 5",
        ),
        ("convmixer_768_32", (2, 3), "levels [2, 3]; it has: none, for its maps are of stride 7"),
        (
            "wrn_16_8_cifar",
            (2, 3, 4, 5),
            "levels [3, 4, 5]; it has: 0 (stride 1), 1 (stride 2), 2 (stride 4)",
        ),
    ],
)
def test_a_level_that_does_not_exist_is_refused_with_those_that_do(name, levels, existing):
    with pytest.raises(zoo.ZooError) as error:
        without_variables(zoo.features, name, levels)
    assert existing in str(error.value)
    assert str(error.value).startswith(name)


def test_no_level_is_refused():
    with pytest.raises(zoo.ZooError, match="at least one level"):
        without_variables(zoo.features, "resnet18", ())
