"""Types of options that algorithms share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

Size = Annotated[int, Field(gt=0, le=10**7)]
Members = Annotated[int, Field(gt=0, le=100, json_schema_extra={"members": True})]
"""Of an ensemble."""
Width = Annotated[int, Field(gt=0, le=2**13)]
"""Of a layer; a square one of the widest takes 256 MB in single precision."""
Widths = Annotated[tuple[Width, ...], Field(max_length=16, json_schema_extra={"widths": True})]
"""Widths of hidden layers; the checks of an agent cut them."""
OtherWidths = Annotated[Widths | None, Field(json_schema_extra={"widths": True})]
"""Widths of some networks' hidden layers; none: as those of the others."""
Normed = Annotated[Literal["none", "critics", "all"], Field(json_schema_extra={"norms": True})]
"""Which networks' layers are normalised."""
Rate = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0, le=10**10)]
