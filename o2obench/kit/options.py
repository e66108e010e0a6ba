"""Types of options that algorithms share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Size = Annotated[int, Field(gt=0)]
Widths = Annotated[tuple[Size, ...], Field(json_schema_extra={"widths": True})]
"""Widths of hidden layers; the checks of an agent cut them."""
Rate = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
