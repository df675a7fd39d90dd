"""Executing orders from synchronous code: a thin face over ``services.mcp.order_execution``."""

from .api_key_manager import APICredentials, APIKeyManager, KeyReport
from .nobitex_engine import EngineDied, NobitexExecutionEngine
from .orders import Order, OrderFill, OrderSide, OrderStatus, OrderTimeInForce, OrderType
from .positions import Position, PositionBook, PositionManager
from .results import ExecutionOutcome, ExecutionPhase, ExecutionResult
from .risk import OrderForbidden, RiskManager
from .transaction_logger import TransactionLogger

__all__ = [
    "APICredentials",
    "APIKeyManager",
    "EngineDied",
    "ExecutionOutcome",
    "ExecutionPhase",
    "ExecutionResult",
    "KeyReport",
    "NobitexExecutionEngine",
    "Order",
    "OrderFill",
    "OrderForbidden",
    "OrderSide",
    "OrderStatus",
    "OrderTimeInForce",
    "OrderType",
    "Position",
    "PositionBook",
    "PositionManager",
    "RiskManager",
    "TransactionLogger",
]
