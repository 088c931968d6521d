"""The demo model in PyTorch: the parts of InternVL-Chat-V1-1 under the same tensor names, a thousand times smaller."""
import torch
import torch.nn as nn
import torch.nn.functional as F

IMAGE, PATCH, GRID = 112, 14, 8
V_EMBD, V_HEAD, V_FF, V_LAYERS, V_RUN = 192, 6, 640, 8, 6  # eight blocks in the file, select_layer -3 runs six
N_EMBD, N_HEAD, N_FF, N_LAYER = 256, 4, 512, 3
N_IMAGE_TOKENS = 16
V_EPS, MLP_EPS, RMS_EPS, ROPE = 1e-6, 1e-5, 1e-5, 10000.0
LAYER_SCALE = 0.3
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class RMSNorm(nn.Module):
    def __init__(self, n, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(n)), eps

    def forward(self, x):
        f = x.float()
        return (f * torch.rsqrt(f.pow(2).mean(-1, keepdim=True) + self.eps)).to(x.dtype) * self.weight


def wave_positions():
    """(64, 192): sines and cosines of row and column, as strong as the patches, so that place is known from the first step."""
    n = V_EMBD // 4
    angle = torch.arange(GRID)[:, None] * 2.0 ** -torch.linspace(0, 4, n)[None]
    wave = torch.cat([angle.sin(), angle.cos()], 1)  # (8, 96)
    return torch.cat([wave[:, None].expand(-1, GRID, -1), wave[None].expand(GRID, -1, -1)], -1).reshape(GRID * GRID, V_EMBD)


class VisionEmbeddings(nn.Module):
    def __init__(self):
        super().__init__()
        self.class_embedding = nn.Parameter(torch.randn(1, 1, V_EMBD) * 0.02)
        self.patch_embedding = nn.Conv2d(3, V_EMBD, PATCH, PATCH)
        self.position_embedding = nn.Parameter(torch.cat([torch.randn(1, V_EMBD) * 0.02, wave_positions()])[None])

    def forward(self, x):
        b = x.shape[0]
        # the convolution as one matrix product: rows are patches, columns (channel, row, column) of the patch
        rows = x.view(b, 3, GRID, PATCH, GRID, PATCH).permute(0, 2, 4, 1, 3, 5).reshape(b, GRID * GRID, -1)
        rows = F.linear(rows, self.patch_embedding.weight.flatten(1), self.patch_embedding.bias)
        return torch.cat([self.class_embedding.expand(b, -1, -1), rows], 1) + self.position_embedding


class VisionAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(V_EMBD, 3 * V_EMBD, bias=False)
        self.q_norm, self.k_norm = RMSNorm(V_EMBD, V_EPS), RMSNorm(V_EMBD, V_EPS)
        self.proj = nn.Linear(V_EMBD, V_EMBD)

    def forward(self, x):
        b, n, c = x.shape
        q, k, v = self.qkv(x).split(c, -1)
        q, k = self.q_norm(q), self.k_norm(k)  # over the full width, all heads together
        q, k, v = (t.reshape(b, n, V_HEAD, c // V_HEAD).transpose(1, 2) for t in (q, k, v))
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))


class VisionMLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(V_EMBD, V_FF), nn.Linear(V_FF, V_EMBD)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class VisionBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn, self.mlp = VisionAttention(), VisionMLP()
        self.norm1, self.norm2 = RMSNorm(V_EMBD, V_EPS), RMSNorm(V_EMBD, V_EPS)
        self.ls1 = nn.Parameter(torch.full((V_EMBD,), LAYER_SCALE))
        self.ls2 = nn.Parameter(torch.full((V_EMBD,), LAYER_SCALE))

    def forward(self, x):
        x = x + self.attn(self.norm1(x)) * self.ls1
        return x + self.mlp(self.norm2(x)) * self.ls2


class VisionModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.embeddings = VisionEmbeddings()
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList(VisionBlock() for _ in range(V_LAYERS))

    def forward(self, x):
        x = self.embeddings(x)
        for block in self.encoder.layers[:V_RUN]:  # hidden_states[-3] of nine: no final norm
            x = block(x)
        return x


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


class TextAttention(nn.Module):
    def __init__(self):
        super().__init__()
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            setattr(self, name, nn.Linear(N_EMBD, N_EMBD, bias=False))

    def forward(self, x, cos, sin, mask):
        b, n, c = x.shape
        q, k, v = (p(x).view(b, n, N_HEAD, c // N_HEAD).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.o_proj(y.transpose(1, 2).reshape(b, n, c))


class TextMLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate_proj = nn.Linear(N_EMBD, N_FF, bias=False)
        self.up_proj = nn.Linear(N_EMBD, N_FF, bias=False)
        self.down_proj = nn.Linear(N_FF, N_EMBD, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class TextBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.self_attn, self.mlp = TextAttention(), TextMLP()
        self.input_layernorm, self.post_attention_layernorm = RMSNorm(N_EMBD, RMS_EPS), RMSNorm(N_EMBD, RMS_EPS)

    def forward(self, x, cos, sin, mask):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask)
        return x + self.mlp(self.post_attention_layernorm(x))


class LanguageModel(nn.Module):
    def __init__(self, n_vocab):
        super().__init__()
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(n_vocab, N_EMBD)
        self.model.layers = nn.ModuleList(TextBlock() for _ in range(N_LAYER))
        self.model.norm = RMSNorm(N_EMBD, RMS_EPS)
        self.lm_head = nn.Linear(N_EMBD, n_vocab, bias=False)

    def forward(self, x, positions, mask):
        """x (b, n, 256), positions (b, n) counted from 0, mask (b, 1, n, n) true where attention is allowed."""
        d = N_EMBD // N_HEAD
        inv = 1.0 / ROPE ** (torch.arange(0, d, 2, dtype=torch.float32, device=x.device) / d)
        angle = positions[:, None, :, None].float() * inv
        angle = torch.cat([angle, angle], -1)
        cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        for block in self.model.layers:
            x = block(x, cos, sin, mask)
        return self.model.norm(x)


def pixel_shuffle_v1(x):
    """(b, 64, c) patches, row by row -> (b, 16, 4c): blocks of 2x2, blocks ordered column by column."""
    b, _, c = x.shape
    h = GRID // 2
    x = x.view(b, h, 2, h, 2, c)  # i, a, j, b, channel
    return x.permute(0, 3, 1, 2, 4, 5).reshape(b, h * h, 4 * c)  # token 4j + i, channel (a, b, c)


class Demo(nn.Module):
    def __init__(self, n_vocab):
        super().__init__()
        self.vision_model = VisionModel()
        self.mlp1 = nn.Sequential(nn.LayerNorm(4 * V_EMBD, eps=MLP_EPS), nn.Linear(4 * V_EMBD, N_EMBD), nn.GELU(),
                                  nn.Linear(N_EMBD, N_EMBD))
        self.language_model = LanguageModel(n_vocab)
        for name, p in self.named_parameters():
            if p.dim() == 2 and "embed" not in name:
                nn.init.normal_(p, std=0.6 / p.shape[1] ** 0.5)
            elif name.endswith("embed_tokens.weight"):
                nn.init.normal_(p, std=0.3)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def image_tokens(self, tower):
        return self.mlp1(pixel_shuffle_v1(tower[:, 1:]))


def normalise(images):
    """(b, 112, 112, 3) uint8 or float levels -> (b, 3, 112, 112)"""
    x = images.float() / 255
    return ((x - x.new_tensor(MEAN)) / x.new_tensor(STD)).permute(0, 3, 1, 2)
