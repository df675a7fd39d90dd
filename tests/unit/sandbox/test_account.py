"""Wallets, profile, keys and the stream's token."""

from __future__ import annotations

from decimal import Decimal

from tests.unit.sandbox.desk import desk

WALLETS = "/v2/wallets"


async def test_wallets_by_code_in_capitals() -> None:
    """Balance and what of it is blocked; others than those asked for are left out."""
    async with desk(balances={"usdt": "1000", "btc": "2"}) as client:
        await client.add()
        wallets = (await client.get(f"{WALLETS}?currencies=usdt,btc&type=spot")).body["wallets"]
        assert set(wallets) == {"USDT", "BTC"}
        assert (wallets["USDT"]["balance"], wallets["USDT"]["blocked"]) == ("1000", "600")
        assert (wallets["BTC"]["balance"], wallets["BTC"]["blocked"]) == ("2", "0")
        assert isinstance(wallets["BTC"]["id"], int)


async def test_a_wallet_that_holds_nothing_is_missing() -> None:
    """A missing key means zero; margin wallets hold nothing."""
    async with desk(balances={"usdt": "1000"}) as client:
        assert set((await client.get(WALLETS)).body["wallets"]) == {"USDT"}
        assert (await client.get(f"{WALLETS}?type=margin")).body["wallets"] == {}
        assert (await client.get(f"{WALLETS}?currencies=gold")).status == 400


async def test_the_old_list_of_wallets() -> None:
    """Rows with balances as strings and their worth in rial as whole numbers."""
    async with desk(balances={"usdt": "1000", "rls": "5"}) as client:
        await client.add()
        rows = {row["currency"]: row for row in (await client.get("/users/wallets/list")).body["wallets"]}
        usdt = rows["usdt"]
        assert (usdt["balance"], usdt["blockedBalance"], usdt["activeBalance"]) == ("1000", "600", "400")
        assert usdt["rialBalance"] == 1_000_000_000
        assert isinstance(usdt["rialBalance"], int)
        assert rows["rls"]["rialBalance"] == 5


async def test_the_method_of_the_wallet_lists_can_be_the_other_one() -> None:
    """The sources differ; whichever is set, the other one is 405."""
    for method, other in (("GET", "POST"), ("POST", "GET")):
        async with desk(wallet_method=method) as client:
            for path in (WALLETS, "/users/wallets/list", "/users/limitations"):
                assert (await client.ask(method, path)).body["status"] == "ok"
                assert (await client.ask(other, path)).status == 405


async def test_one_balance_includes_what_is_blocked() -> None:
    """With ten decimals."""
    async with desk(balances={"usdt": "1000"}) as client:
        await client.add()
        answer = await client.post("/users/wallets/balance", {"currency": "usdt"})
        assert answer.body == {"balance": "1000.0000000000", "status": "ok"}
        assert (await client.post("/users/wallets/balance", {"currency": "ltc"})).body["balance"] == "0.0000000000"
        assert (await client.post("/users/wallets/balance", {})).body["status"] == "failed"


async def test_the_profile_names_fees_in_percent() -> None:
    """What it says is what trades cost."""
    async with desk(taker_fee="0.0025") as client:
        options = (await client.get("/users/profile")).body["profile"]["options"]
        assert options["fee"] == options["feeUsdt"] == "0.25"
        await client.market()
        order = client.sandbox.book()[0].order
        assert order.fee == order.filled * Decimal("0.0025")


async def test_the_suffix_of_private_channels_stands_in_either_place() -> None:
    """At the top, or in the profile."""
    async with desk() as client:
        expected = client.sandbox.keys.stream_parameter
        seen = set()
        for _ in range(20):
            body = (await client.get("/users/profile")).body
            assert {body.get("websocketAuthParam"), body["profile"].get("websocketAuthParam")} == {expected, None}
            seen.add("websocketAuthParam" in body)
        assert seen == {True, False}


async def test_limitations_say_that_one_may_trade() -> None:
    """As features that are true or false."""
    async with desk() as client:
        limitations = (await client.get("/users/limitations")).body["limitations"]
        assert limitations["features"]["crypto_trade"] is True


async def test_the_streams_token_is_a_jwt_that_lasts_twenty_minutes() -> None:
    """An API key with READ gets one too; without the slash there is no such address."""
    async with desk() as client:
        path = "/auth/ws/token/"
        answer = await client.ask("GET", path, headers=client.signed("GET", path))
        assert len(answer.body["token"].split(".")) == 3
        assert answer.body["status"] == "ok"
        assert (await client.get("/auth/ws/token")).status == 404


async def test_no_key_is_listed_without_the_scheme() -> None:
    """The list is empty."""
    async with desk(api_keys=False) as client:
        assert (await client.get("/apikeys/list")).body == {"status": "ok", "keys": []}
