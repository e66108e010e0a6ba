"""A causal transformer over the steps of an episode: (return-to-go, observation, action) each.

A Decision Transformer (Chen et al. 2021, arXiv:2106.01345) with a stochastic head (Zheng et al. 2022,
arXiv:2202.05607): blocks as GPT-2's with ReLU, no information on the position of a step. What the action of a
step is to be is read from the step's observation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

LEAST, HALF = -5.0, 3.5
"""Log deviations lie between ``LEAST`` and ``LEAST`` + 2 ``HALF``."""


class Block(nn.Module):
    """Attention, then two layers, both on normalised inputs and added to them."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.before_attention, self.before_layers = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.layers = nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width))
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """Map tokens (n, tokens, width); ``seen`` (n, 1, tokens, tokens) tells which a token may look at."""
        parts = self.query_key_value(self.before_attention(x)).chunk(3, -1)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        share = self.dropout if self.training else 0.0
        looked = scaled_dot_product_attention(query, key, value, attn_mask=seen, dropout_p=share)
        x = x + self.drop(self.mix(looked.transpose(1, 2).flatten(2)))
        out: Tensor = x + self.drop(self.layers(self.before_layers(x)))
        return out


class DecisionTransformer(nn.Module):
    """Maps the steps of episodes to the distribution of each step's action."""

    def __init__(
        self, obs_dim: int, act_dim: int, width: int, layers: int, heads: int, dropout: float
    ) -> None:
        super().__init__()
        inputs = (1, obs_dim, act_dim)
        self.embeddings = nn.ModuleList([nn.Linear(size, width) for size in inputs])
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList([Block(width, heads, dropout) for _ in range(layers)])
        self.last_norm = nn.LayerNorm(width)
        self.mean, self.log_std = nn.Linear(width, act_dim), nn.Linear(width, act_dim)
        for part in self.blocks.modules():  # embeddings of this size, without biases, would be blind to sizes
            if isinstance(part, nn.Linear):
                nn.init.normal_(part.weight, std=0.02)
                nn.init.zeros_(part.bias)
        for head in (self.mean, self.log_std):
            nn.init.orthogonal_(head.weight)

    def forward(self, to_go: Tensor, obs: Tensor, action: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log deviation of each step's action before tanh, (n, steps, act_dim).

        ``to_go`` (n, steps, 1), ``obs`` and ``action`` (n, steps, dim); steps that are not ``valid``
        (n, steps) are not looked at. The action of a step is not seen where it is decided.
        """
        parts = zip(self.embeddings, (to_go, obs, action), strict=True)
        tokens = torch.stack([embed(part) for embed, part in parts], 2).flatten(1, 2)
        count = tokens.shape[1]
        before = torch.ones((count, count), dtype=torch.bool, device=tokens.device).tril()
        itself = torch.eye(count, dtype=torch.bool, device=tokens.device)
        seen = before & (valid.repeat_interleave(3, 1)[:, None] | itself)
        x = self.norm(tokens)
        for block in self.blocks:
            x = block(x, seen[:, None])
        of_obs = self.last_norm(x)[:, 1::3]
        return self.mean(of_obs), LEAST + HALF * (torch.tanh(self.log_std(of_obs)) + 1.0)
