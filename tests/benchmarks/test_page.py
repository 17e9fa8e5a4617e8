"""The page that several scripts write, each its own section."""

from benchmarks.page import HEAD, replace_section


def test_a_run_replaces_its_own_section_and_no_other(tmp_path):
    page = tmp_path / "benchmarks.md"
    replace_section("Serving", "old\n\n### Latency\n\n1 ms", page)
    replace_section("Serving: batches", "8", page)
    replace_section("Serving", "new \\1", page)
    assert page.read_text("utf-8") == f"{HEAD}\n## Serving\n\nnew \\1\n\n## Serving: batches\n\n8\n"
    replace_section("Serving: batches", "9\n\n", page)
    assert page.read_text("utf-8") == f"{HEAD}\n## Serving\n\nnew \\1\n\n## Serving: batches\n\n9\n"
