"""The operator's endpoints."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.sandbox.desk import ADD, LIST, desk

FAULTS = "/sandbox/faults"


async def test_faults_are_put_in_place_of_those_before() -> None:
    """What is not named is off; the answer says what is in force."""
    async with desk(faults={"bare_429": 1.0}) as client:
        answer = await client.post(FAULTS, {"lost_reply": 0.25, "only": [ADD]})
        assert answer.body["status"] == "ok"
        assert answer.body["faults"]["lost_reply"] == 0.25
        assert answer.body["faults"]["bare_429"] == 0
        assert client.sandbox.faults.only == (ADD,)
        assert (await client.get(FAULTS)).body == answer.body
        await client.post(FAULTS, {})
        assert client.sandbox.faults.lost_reply == 0


async def test_a_script_says_what_the_next_requests_meet() -> None:
    """One each."""
    async with desk() as client:
        await client.post(FAULTS, {"script": [{"fate": "limited_bare", "path": ADD}, {"fate": "error_before"}]})
        assert (await client.get(LIST)).status >= 500
        assert (await client.add()).status == 429
        assert (await client.add()).status == 200


@pytest.mark.parametrize(
    "body",
    [
        {"lost_reply": 2},
        {"lost_reply": 0.6, "hang": 0.6},
        {"nonsense": 1},
        {"script": "x"},
        {"script": [{"fate": "sunshine"}]},
        {"script": [{"fate": "cut", "when": "now"}]},
        {"script": [5]},
        {"script": [{"fate": "cut"}] * 1001},
    ],
)
async def test_faults_that_make_no_sense_leave_those_in_force(body: dict[str, Any]) -> None:
    """And the answer says why."""
    async with desk(faults={"lost_event": 0.5}) as client:
        answer = await client.post(FAULTS, body)
        assert (answer.status, answer.body["status"]) == (400, "failed")
        assert answer.body["message"]
        assert client.sandbox.faults.lost_event == 0.5


async def test_a_body_that_is_no_json_is_refused() -> None:
    """Forms too."""
    async with desk() as client:
        assert (await client.ask("POST", FAULTS, b"{")).status == 400
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        assert (await client.ask("POST", FAULTS, b"a=1", headers)).status == 400


async def test_the_book_is_the_whole_truth() -> None:
    """Orders of any state with their trades, funds, and requests so far; faults and lags do not touch it."""
    async with desk(balances={"usdt": "2000", "btc": "1"}, faults={"lookup_lag_seconds": 60}) as client:
        await client.add(clientOrderId="rests")
        await client.market(clientOrderId="done")
        client.sandbox.say("lost_reply")
        book = (await client.get("/sandbox/book")).body
        rests, done = book["orders"]
        assert (rests["clientOrderId"], rests["status"], rests["trades"]) == ("rests", "Active", [])
        assert (done["clientOrderId"], done["status"], done["filled"]) == ("done", "Done", "0.01")
        assert sum(float(trade["amount"]) for trade in done["trades"]) == 0.01
        assert book["funds"]["USDT"]["blocked"] == "600"
        assert book["funds"]["BTC"]["total"] == "1.00998"
        assert book["requests"] == {f"{ADD} 200": 2}
        assert book["under_way"] == 0
