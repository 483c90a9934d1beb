"""Exponential back-off."""

from hypothesis import given
from hypothesis import strategies as st

from mergenode.ledger.backoff import CAP_SECONDS, backoff_seconds, failures_until

JITTER = st.floats(0, 1, exclude_max=True)


@given(failures=st.integers(1, 10**9), jitter=JITTER)
def test_a_delay_lies_between_half_a_step_and_a_step(failures: int, jitter: float) -> None:
    step = CAP_SECONDS
    for doublings in range(min(failures, 11)):
        step = min(CAP_SECONDS, 1.0 * 2**doublings)
    assert step / 2 <= backoff_seconds(failures, jitter) <= step <= 600


@given(failures=st.integers(1, 50), jitter=JITTER)
def test_more_failures_never_wait_less(failures: int, jitter: float) -> None:
    assert backoff_seconds(failures + 1, jitter) >= backoff_seconds(failures, jitter)


@given(jitter=JITTER)
def test_no_failure_counts_as_one(jitter: float) -> None:
    assert backoff_seconds(0, jitter) == backoff_seconds(1, jitter) >= 0.5


def test_first_step_and_cap_can_be_chosen() -> None:
    assert backoff_seconds(4, 0.999999, first_seconds=0.1, cap_seconds=0.5) <= 0.5
    assert backoff_seconds(2, 0.0, first_seconds=0.1) == 0.1


@given(cap=st.floats(0.01, 10_000), first=st.floats(0.01, 100))
def test_after_so_many_failures_the_step_is_the_cap_and_not_before(cap: float, first: float) -> None:
    def step(failures: int) -> float:
        return 2 * backoff_seconds(failures, 0.0, first_seconds=first, cap_seconds=cap)

    enough = failures_until(cap, first_seconds=first)
    assert step(enough) == cap
    assert enough == 1 or step(enough - 1) < cap
