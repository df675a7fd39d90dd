"""Both schemes of authentication, permissions and the ban."""

from __future__ import annotations

import pytest

from services.mcp.order_execution.sandbox import door as door_module
from services.mcp.order_execution.sandbox.calls import Call, Refusal
from services.mcp.order_execution.sandbox.door import FAILURES_MAX, FAILURES_SECONDS, Door
from tests.unit.sandbox.desk import ADD, LIST, desk


async def test_the_session_token_opens_private_endpoints() -> None:
    """``Authorization: Token …`` is enough for every private call."""
    async with desk() as client:
        assert (await client.get(LIST)).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Token " + "0" * 40},
        {"Authorization": "Bearer x"},
        {"Authorization": "Token \udcff"},
        {"Nobitex-Key": "x", "Nobitex-Signature": "y", "Nobitex-Timestamp": "1"},
    ],
)
async def test_without_good_credentials_the_answer_is_401_with_a_detail(headers: dict[str, str]) -> None:
    """In the style that has neither status nor code."""
    async with desk() as client:
        answer = await client.ask("GET", LIST, headers=headers)
        assert answer.status == 401
        assert set(answer.body) == {"detail"}


async def test_a_signature_over_timestamp_method_target_and_body_opens() -> None:
    """The query is part of what is signed, and so is the body as it was sent."""
    async with desk() as client:
        target = f"{LIST}?status=all&details=2"
        assert (await client.ask("GET", target, headers=client.signed("GET", target))).status == 200
        body = b'{"clientOrderId": "none"}'
        headers = client.signed("POST", "/market/orders/status", body)
        assert (await client.ask("POST", "/market/orders/status", body, headers)).status in (200, 404)


async def test_a_signature_over_anything_else_does_not_open() -> None:
    """Another query, another body, another method, another key."""
    async with desk() as client:
        headers = client.signed("GET", LIST)
        assert (await client.ask("GET", f"{LIST}?page=1", headers=headers)).status == 401
        assert (await client.ask("POST", ADD, b"{}", client.signed("POST", ADD, b"{ }"))).status == 401
        assert (await client.ask("GET", LIST, headers=client.signed("POST", LIST))).status == 401
        other = {**headers, "Nobitex-Key": "5XOCQZSPLQM4MiLzuUnZoBuqgYgTKl40W2X5j1pxfIA="}
        assert (await client.ask("GET", LIST, headers=other)).status == 401


async def test_a_timestamp_further_away_than_thirty_seconds_is_stale() -> None:
    """Before as well as after."""
    async with desk() as client:
        for ahead, status in ((-31, 401), (-29, 200), (29, 200), (31, 401)):
            headers = client.signed("GET", LIST, ahead=ahead)
            assert (await client.ask("GET", LIST, headers=headers)).status == status, ahead


@pytest.mark.parametrize("stamp", ["", "1.5", "-5", "x", "1767268800000"])
async def test_a_timestamp_is_whole_seconds(stamp: str) -> None:
    """Milliseconds and fractions are refused."""
    async with desk() as client:
        headers = {**client.signed("GET", LIST), "Nobitex-Timestamp": stamp}
        assert (await client.ask("GET", LIST, headers=headers)).status == 401


async def test_a_signature_is_url_safe_base64_with_padding() -> None:
    """The stricter of the two readings."""
    async with desk(seed=3) as client:
        for second in range(200):
            headers = client.signed("GET", LIST, ahead=second % 29)
            signature = headers["Nobitex-Signature"]
            if "-" in signature or "_" in signature:
                break
            client.clock.advance(1)
        standard = signature.replace("-", "+").replace("_", "/")
        for wrong in (standard, signature.rstrip("=")):
            assert wrong != signature
            changed = {**headers, "Nobitex-Signature": wrong}
            assert (await client.ask("GET", LIST, headers=changed)).status == 401
        assert (await client.ask("GET", LIST, headers=headers)).status == 200


async def test_trade_does_not_imply_read_nor_the_reverse() -> None:
    """A key without the permission gets 403."""
    async with desk(permissions=["TRADE"]) as client:
        assert (await client.ask("GET", LIST, headers=client.signed("GET", LIST))).status == 403
    async with desk(permissions=["READ"]) as client:
        assert (await client.ask("POST", ADD, b"{}", client.signed("POST", ADD, b"{}"))).status == 403
        assert (await client.ask("GET", LIST, headers=client.signed("GET", LIST))).status == 200


async def test_keys_are_managed_with_a_session_only() -> None:
    """``/apikeys/…`` wants the token."""
    async with desk() as client:
        answer = await client.ask("GET", "/apikeys/list", headers=client.signed("GET", "/apikeys/list"))
        assert answer.status == 403
        assert (await client.get("/apikeys/list")).body["keys"][0]["permissions"] == "READ,TRADE"
    async with desk(key_lists_keys=True) as client:
        answer = await client.ask("GET", "/apikeys/list", headers=client.signed("GET", "/apikeys/list"))
        assert answer.body["keys"][0]["permissions"] == "READ,TRADE"


async def test_more_than_a_hundred_failures_ban_the_address_until_the_window_ends() -> None:
    """Then good credentials help no more, for half an hour."""
    async with desk() as client:
        for _ in range(FAILURES_MAX):
            assert (await client.ask("GET", LIST, headers={})).status == 401
        assert (await client.get(LIST)).status == 200
        await client.ask("GET", LIST, headers={})
        banned = await client.get(LIST)
        assert banned.status == 403
        assert "<h1>" in banned.body
        client.clock.advance(FAILURES_SECONDS + 1)
        assert (await client.get(LIST)).status == 200


async def test_without_the_scheme_no_key_opens() -> None:
    """``api_keys=False`` leaves the token alone."""
    async with desk(api_keys=False) as client:
        assert client.sandbox.keys.api_key is None
        headers = {"Nobitex-Key": "", "Nobitex-Signature": "", "Nobitex-Timestamp": "1"}
        assert (await client.ask("GET", LIST, headers=headers)).status == 401
        assert (await client.get(LIST)).status == 200


async def test_many_failing_addresses_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one is forgotten for the newest."""
    monkeypatch.setattr(door_module, "ADDRESSES_MAX", 2)
    monkeypatch.setattr(door_module, "FAILURES_MAX", 0)
    async with desk() as client:
        door = Door(client.sandbox.settings, client.sandbox.keys, client.clock)
        for remote in ("a", "b", "c"):
            with pytest.raises(Refusal):
                door.admit(Call("GET", LIST, {}, remote=remote), "READ")
        door.check_address("a")
        for remote in ("b", "c"):
            with pytest.raises(Refusal):
                door.check_address(remote)
