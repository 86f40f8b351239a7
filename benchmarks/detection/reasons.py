"""Why a peer is quicker, or always alarming scores better, where that is so.

Owns the reasons and the figures they rest on: each was measured by giving this engine what the peer has (one kind of
change to look for, its size, one category), or by looking at the stream. They are told beside what a run finds, which
differs by chance; how far a peer is ahead is that run's own figure. Refuses to know how a run is made.
"""

from __future__ import annotations

NOT_LOOKED_FOR = "no reason is known: this peer was not quicker when reasons were looked for"

LEVEL = (
    "ADWIN watches the mean alone, of normal scores that an oracle gives it, at a delta tuned on their null; this "
    "engine spreads its evidence over eight sizes of shift, spread and shape, as it must to see the rows that ADWIN "
    "misses (variance x1.5: every run) and to need no tuning. Told to watch the level alone, and then its size too, it "
    "needs 519 and 449 instead of 535 for 0.25 sd, where ADWIN needs 456 (1,000 runs, blocks of 32); 2,863 and 2,432 "
    "instead of 2,981 for 0.1 sd, ADWIN 2,496: not to know the size is 13 % to 15 %, the other evidence 3 % to 4 %. "
    "The lead shrinks as shifts grow: ADWIN 146, ours 163 for 0.5 sd, 59 and 60 for 1 sd (400 and 1,000 runs)"
)
SHARE = (
    "an oracle tells ADWIN which of the categories to count; this engine bets on each of them. With bets on that one "
    "alone it needs 762 instead of 861 for +0.10, where ADWIN needs 738 (500 to 1,000 runs, blocks of 32)"
)
TEN = (
    f"{LEVEL}. Of ten features the quickest counts, and ADWIN's delays spread wider: for 0.1 sd of one feature a tenth "
    "of its runs ends by 1,324, of ours by 1,657, told the size by 1,428. So of ten this engine needs 1,428, watching "
    "the level alone 1,358, told its size 1,326, ADWIN 1,311 (200 runs, ADWIN 100)"
)
BLOCK = (
    "a block of 256 rows has to fill before it is judged, which adds half a block, 128 rows, to a change that a few "
    "rows would show: 0.5 sd is found after 164 rows in blocks of 32 and after 299 in blocks of 256, 1 sd after 61 and "
    "211 (2,000 runs). Longer blocks are the default as a value costs a fraction in them; `block_rows: 32` "
    "is the choice where these rows matter. Where the peer is quicker than blocks of 32 too, the rest is told there"
)
WINDOW = "its windows of 200 rows end sooner than blocks of 256; in blocks of 32 this engine is quicker than it"


def of_delays(row: str, block_rows: int, peer: str) -> str:
    """Of a peer that is quicker than ours in blocks of so many rows, on a row of the part `delays`."""
    if not peer.startswith("ADWIN"):
        return WINDOW if block_rows == 256 and peer.endswith("windows of 200") else NOT_LOOKED_FOR
    if row.startswith("variance"):
        return NOT_LOOKED_FOR
    why = SHARE if row.startswith("category") else TEN if "10 of 50" in row else LEVEL
    return why if block_rows == 32 else BLOCK


TWO_SIZES = "With bets on the two largest increases alone this engine needs 161 (2,000 runs, 9.4 alarms per million)"
HDDM_W = (
    "its average forgets all but the last hundred errors or so (lambda 0.02), which suits 0.20 and costs at 0.12, "
    "where it needs six times as long as this engine. Five alarms are few to tune on: on another million errors it "
    f"raised 13, and 200 runs needed 168 in the median. {TWO_SIZES}"
)
ERRORS = {
    "ADWIN (River)": (
        "this engine spreads its bets over six sizes of increase, 0.10 to 0.12 as well as to 0.20, where it is the "
        f"quicker one of the two. {TWO_SIZES}"
    ),
    "HDDM_W (Frouros)": HDDM_W,
    "HDDM_W (River)": HDDM_W,
}


def of_errors(peer: str) -> str:
    """Of a peer that is quicker than ours at the same measured false alarms, on a row of the part `errors`."""
    return ERRORS.get(peer, NOT_LOOKED_FOR)


KNOWN = {
    ("usenet1", "features"): (
        "the stream is too short for the defaults: 1,500 rows with a drift every 300, and 150 rows to be right in. "
        "Features are judged in blocks of 256 rows, so there are five moments to alarm at, and what is found at row "
        "1,173, 273 rows after the drift at 900, counts as false: 7 of 12 alarms (seed 12). A rule that alarms every "
        "15 rows meets every drift, with 44 % of its alarms"
    ),
    ("usenet1", "errors"): (
        "the first drift is found 41 rows after it, and no alarm is false; but after an alarm a stream learns its new "
        "level from 512 rows, and drifts come every 300. Learning from 128 it finds three of four, none false "
        "(seed 12): F1 0.86"
    ),
    ("harvard_sea_0123_abrupt_noise0.2", "errors"): (
        "the drifts hardly show in the errors: a fifth of the labels are noise and the model goes on learning, so the "
        "5,000 rows before and the 1,000 after a drift have error rates of 0.218 and 0.189, 0.213 and 0.240, 0.228 and "
        "0.223 (standard error 0.013). ADWIN, DDM, EDDM and HDDM_A find none either; the features show all three"
    ),
}


def of_known(stream: str, kind: str) -> str:
    """Of a stream of the part `known` where always alarming has the higher F1."""
    return KNOWN.get((stream, kind), NOT_LOOKED_FOR)
