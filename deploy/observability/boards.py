"""The four dashboards."""

from __future__ import annotations

from drift_board import DRIFT
from exchange_board import EXCHANGE
from fleet_board import FLEET
from node_board import NODE
from panels import Board, model

BOARDS: tuple[Board, ...] = (FLEET, NODE, DRIFT, EXCHANGE)
DASHBOARDS = tuple(model(board, BOARDS) for board in BOARDS)
