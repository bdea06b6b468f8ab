from fortify_lab.sets import mix, wanted

ALL = ([5], ["ink", "motion"], ["typed"], ["arithmetic"])


def test_a_version_without_carriers_is_not_asked_for_them():
    assert list(wanted({"--variant", "--level"}, *ALL)) == [
        {"level": 5, "variant": "arithmetic", "mode": "typed"}
    ]


def test_a_version_with_carriers_is_asked_for_each():
    asked = [settings["carrier"] for settings in wanted({"--carrier"}, *ALL)]
    assert asked == ["ink", "motion"]


def test_of_a_mix_the_labels_are_kept_alone(tmp_path):
    program = tmp_path / "fortify"
    program.write_text(
        '#!/bin/sh\nwhile [ "$1" != --out ]; do shift; done\nmkdir -p "$2"\n'
        'echo "$*" > "$2/labels.csv"\ntouch "$2/a.png"\n'
    )
    program.chmod(0o755)
    mix(program, tmp_path / "mix", "b0", 3)
    assert [path.name for path in (tmp_path / "mix").iterdir()] == ["labels.csv"]
    asked = (tmp_path / "mix" / "labels.csv").read_text()
    assert asked.endswith("--seed b0 --count 1000 --level 3 --mode typed --mix\n")
