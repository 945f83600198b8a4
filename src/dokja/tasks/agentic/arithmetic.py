"""Sums that a model writes, worked out without running them: numbers, + - * / // **, signs and brackets."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable

from dokja.tasks.agentic.toolkit import ToolError

_LETTERS = set("0123456789+-*/(). ")
_LONGEST = 1000
_BINARY: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
}
_UNARY: dict[type[ast.unaryop], Callable[[float], float]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}


def evaluate(expression: str) -> float:
    """The value of an expression. ToolError where it holds anything else, has no value or none that a float holds."""
    if not set(expression) <= _LETTERS or len(expression) > _LONGEST:
        raise ToolError("The expression may hold numbers, + - * / and brackets only.")
    try:
        value = _value(ast.parse(expression.strip(), mode="eval").body)
    except (SyntaxError, ValueError, ArithmeticError, RecursionError, MemoryError) as error:
        raise ToolError(f"The expression has no value: {type(error).__name__}.") from error
    if isinstance(value, complex) or not abs(value) < float("inf"):
        raise ToolError("The expression has no finite real value.")
    return value


def _value(node: ast.expr) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return float(node.value)
    if isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
        return _UNARY[type(node.op)](_value(node.operand))
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        return _BINARY[type(node.op)](_value(node.left), _value(node.right))
    raise ValueError("neither a number nor a sum")
