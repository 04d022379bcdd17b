from __future__ import annotations

import pytest

from proxy.core.evidence import Evidence
from proxy.demo.scenes import scene, tunnelled
from proxy.demo.story import Run
from proxy.demo.words import _EVIDENCE, Result, chosen, number, sentence, sentences
from tests.demo.seen import careful, fast, lossy, played, warm_up

CLEAN = scene("clean")


def test_there_is_a_sentence_for_every_evidence() -> None:
    assert set(_EVIDENCE) == {evidence.value for evidence in Evidence}


def test_the_result_of_a_clear_path() -> None:
    result = Result.of(played([fast(), fast()]))
    assert result.headline == "2.0 → 1.0 round trips"
    assert result.faster
    assert result.paid == ()
    assert result.footnote == "No connection waited noticeably longer than a plain one."


def test_the_result_of_a_bad_path() -> None:
    result = Result.of(played([lossy(), lossy(), careful()]))
    assert result.headline == "2.0 → 2.0 round trips"
    assert not result.faster
    assert result.footnote == "Two connections paid 1.5 round trips each for finding out; none failed."
    assert [result.judged(trips) for trips in (1.0, 2.1, 3.5, None)] == ["less", "even", "more", "even"]
    one = Result.of(played([lossy(), careful()]))
    assert one.footnote == "One connection paid 1.5 round trips for finding out; no connection failed."


@pytest.mark.parametrize(
    ("plain", "through", "says"),
    [
        (None, (None,), "Nobody gets through here, with or without a proxy."),
        (2.0, (None, 2.0), "1 of 2 connections got no answer."),
        (2.0, (3.0, 2.0), "One connection paid 1.0 round trip for finding out; no connection failed."),
        (2.0, (4.0, 3.5, 2.0), "Two connections paid 2.0 and 1.5 round trips for finding out; none failed."),
    ],
)
def test_footnotes(plain: float | None, through: tuple[float | None, ...], says: str) -> None:
    assert Result(plain, through, through[-1], ()).footnote == says


def test_where_nothing_comes_there_are_no_round_trips() -> None:
    assert Result(None, (None,), None, ()).headline == "no answer, with and without"
    assert Result(2.0, (None,), None, ()).headline == "2.0 → ✗ round trips"


def test_numbers() -> None:
    assert (number(1.04), number(None)) == ("1.0", "✗")


def test_sentences_say_what_became_of_a_connection() -> None:
    assert (
        sentence(fast(), CLEAN)
        == "The request travelled in the SYN, and the server took it: a round trip saved."
    )
    said = sentence(lossy(), CLEAN)
    assert "got lost. A plain dial that had started beside it carried the session." in said
    assert said.endswith("until a probe says otherwise.")
    assert sentence(careful(), CLEAN) == "Dialled plainly: this server is in quarantine."
    told: dict[str, object] = {
        "evidence": "plain",
        "standing_before": "option_doubted",
        "standing_after": "quarantined",
    }
    assert "another dial is finding out. Meanwhile a second loss was seen" in sentence(
        Run((), (), 0.2, told), CLEAN
    )
    assert sentence(Run((), (), None, {"reason": "refused"}), CLEAN) == "It ended with refused."
    spared = Run(fast().lanes, fast().arrows, 0.1, {"evidence": "syn_ack_lost", "hedged": True})
    assert sentence(spared, CLEAN).endswith("A plain dial started beside it, and was not needed.")
    empty = Run((), (), 0.1, {"evidence": "empty_open"})
    assert sentence(empty, CLEAN.turned_round()).endswith("the server could speak at once.")
    assert sentence(empty, CLEAN) == "The SYN brought the cookie and no data."


def test_neighbours_that_went_alike_are_told_together() -> None:
    told = sentences([lossy(), careful(), careful(), fast()], CLEAN)
    assert [which for which, _ in told] == ["1", "2-3", "4"]


def test_only_what_differs_is_drawn() -> None:
    assert [title for title, _ in chosen(played([fast(), fast()]))] == [
        "A plain connection",
        "Through tfo-proxy",
    ]
    titles = [title for title, _ in chosen(played([lossy(), lossy(), careful()]))]
    assert titles == ["A plain connection", "Through tfo-proxy, the first one", "Through tfo-proxy, number 3"]
    in_tunnel = played([fast()], tunnelled(CLEAN))
    assert chosen(in_tunnel)[1][0] == "Through the tunnel"
    assert "the far proxy took it" in sentence(fast(), in_tunnel.scene)
    assert warm_up().first_byte is None
