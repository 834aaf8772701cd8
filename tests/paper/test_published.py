from nisf.paper.published import published_dice

HEART = ["LV blood pool", "LV myocardium", "RV blood pool"]


def test_only_the_structures_of_the_paper_are_compared_with_it():
    assert published_dice(HEART)["mean"] == (0.87, 0.045)
    assert published_dice(HEART)["RV blood pool"] == (0.88, 0.063)
    # The paper's mean is over all three.
    assert published_dice(HEART[:2]) == {}
    assert published_dice(["anterior", "posterior"]) == {}
