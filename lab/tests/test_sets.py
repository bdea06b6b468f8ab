from fortify_lab.sets import wanted

ALL = ([5], ["ink", "motion"], ["typed"], ["arithmetic"])


def test_a_version_without_carriers_is_not_asked_for_them():
    assert list(wanted({"--variant", "--level"}, *ALL)) == [
        {"level": 5, "variant": "arithmetic", "mode": "typed"}
    ]


def test_a_version_with_carriers_is_asked_for_each():
    asked = [settings["carrier"] for settings in wanted({"--carrier"}, *ALL)]
    assert asked == ["ink", "motion"]
