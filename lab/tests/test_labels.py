from fortify_lab.labels import by_cell, read_labels

OLD = "file,variant,level,mode,answer,question,choices,width,height,bytes\n"
NEW = OLD.strip() + ",carrier,decoy,later\n"


def test_columns_of_the_first_version_suffice(tmp_path):
    (tmp_path / "labels.csv").write_text(
        OLD + 'a.png,distorted_text,5,typed,K7PXMA,"Type the 6 characters, as you see them",,300,100,15228\n'
    )
    [sample] = read_labels(tmp_path)
    assert (sample.carrier, sample.decoy, sample.choices) == ("ink", "", ())
    assert sample.path == tmp_path / "a.png"
    assert (sample.kind, sample.length) == ("text", 6)


def test_later_columns_are_read_and_unknown_ones_ignored(tmp_path):
    (tmp_path / "labels.csv").write_text(
        NEW
        + "a.png,arithmetic,8,typed,12,Solve the sum,,360,132,16959,motion,31,x\n"
        + "b.png,pattern_completion,8,choice,square,Which?,square|circle,300,100,9000,ink,,x\n"
    )
    first, second = read_labels(tmp_path)
    assert (first.carrier, first.decoy, first.kind) == ("motion", "31", "number")
    assert (second.kind, second.choices) == ("choice", ("square", "circle"))
    assert list(by_cell([first, second])) == [
        ("arithmetic", "motion", "typed", 8),
        ("pattern_completion", "ink", "choice", 8),
    ]
