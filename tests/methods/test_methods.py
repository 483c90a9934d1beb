"""The table of methods, and what a user sees who writes a name wrong."""

from __future__ import annotations

import pytest

from mergenode.errors import UsageError
from mergenode.methods import METHODS, build_method


def test_every_name_in_the_table_is_the_name_of_its_method() -> None:
    assert {name: factory().name for name, factory in METHODS.items()} == {name: name for name in METHODS}


def test_defaults_apply_to_what_is_left_out() -> None:
    method = build_method("opcm", {"variant": "paper"})
    assert method.options["variant"] == "paper"
    assert method.options["alpha"] == 0.5


@pytest.mark.parametrize(
    ("name", "options", "message", "hint"),
    [
        ("opmc", {}, "'opmc'", "Did you mean 'opcm'?"),
        ("zzz", {}, "'zzz'", f"The methods are: {', '.join(METHODS)}."),
        ("opcm", {"alhpa": 0.4}, "no option 'alhpa'", "Did you mean 'alpha'?"),
        ("opcm", {"q": 1}, "no option 'q'", "The options are: alpha, variant, exclude, include."),
        ("average", {"alpha": 0.4}, "no option 'alpha'", "The options are: profile."),
        ("iso", {"scale": "norm"}, "'scale' is 'norm'", "'own' for the method's own, 1."),
        ("dare", {"scale": float("inf")}, "'scale' is inf", "'own' for the method's own, 0.3."),
        ("tsvm", {"scale": True}, "'scale' is True", "a number from -1000000 to 1000000"),
        ("tsvm", {"scale": 1.1e6}, "'scale' is 1100000.0", "a number from -1000000 to 1000000"),
        ("ties", {"scale": -(10**400)}, "'scale' is -1", "a number from -1000000 to 1000000"),
        ("iso", {"profile": {"*": 1e300}}, "'profile' holds '*': 1e+300", "from 0 to 1000000"),
        ("average", {"profile": {"*": 1e39}}, "'profile' holds '*': 1e+39", "from 0 to 1000000"),
        ("aswudi", {"profile": ["*"]}, "'profile' is ['*']", "Map name patterns to factors"),
        ("ties", {"profile": {"*": -1}}, "'profile' holds '*': -1", "from 0 to"),
        ("magmax", {"profile": {"": 1}}, "'profile' holds '': 1", "non-empty"),
        ("average", {"profile": {"*": "1"}}, "'profile' holds '*': '1'", "factors are numbers"),
        ("task_arithmetic", {"profile": 3}, "'profile' is 3", "Map name patterns to factors"),
        ("tsvm", {"rank_share": 0}, "'rank_share' is 0", "above 0"),
        (
            "tsvm",
            {"rank_share": 1.5},
            "'rank_share' is 1.5",
            "at most 1; 1 is the default. With merge: agree it may be up to 2",
        ),
        ("aswudi", {"sides": "output"}, "'sides' is 'output'", "both, input"),
        ("aswudi", {"width_limit": 1.5}, "'width_limit' is 1.5", "whole number"),
        ("swudi", {"width_limit": -1}, "'width_limit' is -1", "at least 0"),
        ("swudi", {"time": 0}, "'time' is 0", "above 0"),
        ("swudi", {"time": float("inf")}, "'time' is inf", "finite"),
        ("swudi", {"ratio": 2}, "'ratio' is 2", "at most 1"),
        ("ties", {"density": 0.0}, "'density' is 0.0", "above 0"),
        ("ties", {"density": "0.2"}, "'density' is '0.2'", "above 0"),
        ("dare", {"drop": 1}, "'drop' is 1", "below 1"),
        ("iso", {"exclude": "*embed*"}, "'exclude' is '*embed*'", "a list"),
        ("opcm", {"variant": "blok"}, "'variant' is 'blok'", "Did you mean 'block'?"),
        ("opcm", {"variant": 7}, "'variant' is 7", "The variants are: block, "),
        ("opcm", {"alpha": 1.0}, "'alpha' is 1.0", "below 1"),
        ("opcm", {"alpha": -0.1}, "'alpha' is -0.1", "below 1"),
        ("opcm", {"alpha": float("nan")}, "'alpha' is nan", "below 1"),
        ("opcm", {"alpha": "0.5"}, "'alpha' is '0.5'", "below 1"),
        ("opcm", {"alpha": True}, "'alpha' is True", "below 1"),
        ("opcm", {"exclude": "*embed*"}, "'exclude' is '*embed*'", "a list"),
        ("opcm", {"include": [3]}, "'include' holds 3", "strings"),
        ("opcm", {"include": [""]}, "'include' holds ''", "strings"),
    ],
)
def test_mistakes_are_named_with_the_way_out(name: str, options: dict[str, object], message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        build_method(name, options)
    assert message in caught.value.message
    assert hint in caught.value.hint
