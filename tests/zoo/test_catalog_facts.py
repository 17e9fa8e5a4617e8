"""The catalog's facts hold together: sources, licences, hashes, names, labels, the references' counts."""

import json
import re
import sys
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest

HERE = Path(__file__).parent.parent
sys.path.insert(0, str(HERE))
import golden_rule  # noqa: E402

CATALOG = files("zoo.catalog")
FAMILIES = {
    p.name: tomllib.loads(p.read_text("utf-8")) for p in CATALOG.iterdir() if p.name.endswith(".toml")
}
ARCHITECTURES = {name: facts for f in FAMILIES.values() for name, facts in f["architectures"].items()}
WEIGHTS = {
    f"{name}.{tag}": facts
    for name, architecture in ARCHITECTURES.items()
    for tag, facts in architecture.get("weights", {}).items()
}
GOLDEN = {p.stem: json.loads(p.read_text()) for p in sorted((HERE / "golden").glob("*.json"))}
SMALL = ("resnet18", "resnet50d", "resnetv2_50", "efficientnet_b0", "efficientnetv2_rw_s")

LICENCES = re.compile(
    r"(apache-2\.0|mit|bsd-3-clause|cc-by-4\.0|cc-by-nc-4\.0|fastvit-license|cvnets-license|seer-license|dinov3-license"
    r"|fair-noncommercial-research-license|apple-amlr|gemma|none stated)\b"
)
HASHED = re.compile(r"-([0-9a-f]{8,})\.pth$")


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_say_where_they_are_and_under_which_licence(name):
    facts = WEIGHTS[name]
    assert facts.keys() & {"hub", "url", "package"}
    assert "file" in facts or "package" not in facts
    assert "file" not in facts or facts.keys() & {"package", "hub"}
    assert LICENCES.match(facts["licence"])


@pytest.mark.parametrize("name", WEIGHTS)
def test_every_file_has_a_hash(name):
    """A hub repository states its own; a file elsewhere carries it in its name, or the catalog does. Keras's
    MobileNets, MogaNet and HBONet have none, and say so.
    """
    facts = WEIGHTS[name]
    hashed = facts.keys() & {"hub", "sha256", "sha1", "md5"} or HASHED.search(facts["url"])
    assert hashed or re.search("/mobilenet|/MogaNet/|/HBONet/", facts["url"])
    assert hashed or facts["remark"].startswith("no hash is published")
    assert re.fullmatch(r"[0-9a-f]{64}", facts.get("sha256", "0" * 64))
    assert re.fullmatch(r"[0-9a-f]{40}", facts.get("sha1", "0" * 40))
    assert re.fullmatch(r"[0-9a-f]{32}", facts.get("md5", "0" * 32))
    assert facts.get("sha256", "").startswith(tuple(HASHED.findall(facts.get("file", ""))) or "")


@pytest.mark.parametrize("name", WEIGHTS)
def test_accuracy_is_plausible_and_has_a_source(name):
    facts = WEIGHTS[name]
    stated = [facts[key] for key in ("top1", "top5", "top1_test", "top5_test") if key in facts]
    assert bool(stated) == ("source" in facts)
    assert all(30 < value < 100 for value in stated)
    assert ("top1_test" in facts) <= ("test_input_size" in facts)


@pytest.mark.parametrize("name", [name for name, facts in ARCHITECTURES.items() if "published" in facts])
def test_what_is_published_without_weights_is_plausible_and_has_a_source(name):
    published = ARCHITECTURES[name]["published"]
    assert "weights" not in ARCHITECTURES[name] or "_cifar" in name
    assert 50 < published["top1"] < published.get("top5", 100)
    assert published["source"]
    assert ("CIFAR" in published.get("pictures", "")) == ("_cifar" in name)


def test_non_free_weights_show():
    facebook = [
        facts["licence"] for name, facts in WEIGHTS.items() if re.search(r"\.fb_(ssl|swsl|wsl)_", name)
    ]
    assert set(facebook) == {"cc-by-nc-4.0"}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_defaults_are_imagenet_weights_that_exist(name):
    facts = ARCHITECTURES[name]
    if "weights" in facts:
        classes = {tag: weights.get("classes", 1000) for tag, weights in facts["weights"].items()}
        assert classes[facts["default"]] == 1000 or 1000 not in classes.values()
    else:
        assert "default" not in facts


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_a_family_has_a_default_variant(family):
    assert family["family"]["default"] in family["architectures"]


def test_names_are_unique_and_aliases_lead_to_weights():
    aliases = [
        (alias, n, tag) for n, f in ARCHITECTURES.items() for alias, tag in f.get("aliases", {}).items()
    ]
    names = [*(n for f in FAMILIES.values() for n in f["architectures"]), *(alias for alias, _, _ in aliases)]
    assert len(set(names)) == len(names)
    assert all(tag in ARCHITECTURES[name].get("weights", {"": None}) for _, name, tag in aliases)


def test_weights_trained_in_tensorflow_carry_its_padding_and_epsilon():
    for name, facts in WEIGHTS.items():
        if facts.get("hub", "").startswith("timm/tf_") or "package" in facts:
            assert (facts["padding"], facts["epsilon"]) == ("same", 1e-3), name


def test_a_thousand_class_names_are_clear_and_in_order():
    names = (CATALOG / "imagenet-1k.txt").read_text("utf-8").splitlines()
    assert len(names) == len({name.lower() for name in names}) == 1000
    assert all(name and name == name.strip() for name in names)
    assert [names[i] for i in (0, 134, 517, 698, 985, 999)] == [
        "tench",
        "crane (bird)",
        "crane (machine)",
        "palace",
        "daisy",
        "toilet tissue",
    ]
    # WordNet's numbers of the classes rise.
    synsets = (CATALOG / "imagenet-1k-synsets.txt").read_text("utf-8").splitlines()
    assert synsets == sorted(set(synsets))
    assert len(synsets) == 1000
    assert [synsets[i] for i in (0, 134, 517, 985)] == ["n01440764", "n02012849", "n03126707", "n11939491"]


@pytest.mark.parametrize("family", ["resnet", "efficientnet"])
def test_a_family_has_golden_files_for_every_variant_and_convention(family):
    variants = FAMILIES[f"{family}.toml"]["architectures"]
    checked = {(architecture_of(golden), golden["padding"]) for golden in GOLDEN.values()}
    used = {
        (n, w.get("padding", "torch")) for n, f in variants.items() for w in f.get("weights", {}).values()
    }
    assert used <= checked
    assert set(variants) <= {name for name, _ in checked}


@pytest.mark.parametrize("golden", GOLDEN.values(), ids=GOLDEN)
def test_counts_equal_the_references(golden):
    facts = ARCHITECTURES[architecture_of(golden)]
    assert [golden[key] for key in ("params", "macs", "macs_size")] == [
        facts[key] for key in ("params", "macs", "macs_size")
    ]


@pytest.mark.parametrize("name", SMALL)
def test_the_rule_gives_the_tensors_that_the_reference_had(name):
    golden = GOLDEN[name]
    tensors = [golden_rule.tensor(key, shape, golden.get("damping", 1)) for key, shape in golden["keys"]]
    assert golden_rule.checksum(tensors) == golden["crc"]


def architecture_of(golden):
    return golden["name"].partition(".")[0]
