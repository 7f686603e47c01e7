"""Implements LUMP with SimSiam in PyTorch, to compare with: a plain loop, and PyTorch at its best.

It was written from the paper and the method's description, and takes its settings from this project's config tree. What
makes it faster without changing the method is done: workers outlive an epoch, all batches that are timed are full,
constants are made once, and PyTorch at its best crops without antialias. The plain loop can be finetune, too: LUMP
without its memory.

A program has `step()`, which does a training step; `parts`, functions that do a part of one; `untimed`, how often each
must be called before a measurement; and `facts`. Its functions do not wait for a GPU.
"""

import random
import warnings
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from flax.traverse_util import flatten_dict
from PIL import Image, ImageEnhance, ImageFilter
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

RATIO = (3 / 4, 4 / 3)  # range of a crop's width over its height, drawn log-uniformly
ATTEMPTS = 10  # draws of a crop until one fits into the image
LUMA = (0.299, 0.587, 0.114)
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
BLUR_ABOVE, BLUR_P, BLUR_SIGMA = 32, 0.5, (0.1, 2.0)


def device() -> torch.device:
    """Returns the device that both programs use: the GPU, where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def wait() -> None:
    """Waits until the GPU, where there is one, has finished its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


# The network of ucl_jax.models; layers have the names that they have there.


class Block(nn.Module):
    """A residual block: two 3x3 convolutions with a shortcut, which is projected where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        self.projects = stride != 1 or inputs != outputs
        if self.projects:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut_norm = nn.BatchNorm2d(outputs)

    def forward(self, x):
        """Maps [B, C, H, W] to [B, outputs, ceil(H / stride), ceil(W / stride)]."""
        y = self.second_norm(self.second(F.relu(self.first_norm(self.first(x)))))
        return F.relu(y + (self.shortcut_norm(self.shortcut(x)) if self.projects else x))


class ResNet18(nn.Module):
    """ResNet-18 for small images, with a 3x3 stem of stride 1 and no max-pool."""

    def __init__(self, width: int):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(width)
        self.blocks, inputs = [], width
        for stage in range(4):
            for block in range(2):
                outputs, name = width * 2**stage, f"stage{stage + 1}_block{block + 1}"
                self.add_module(name, Block(inputs, outputs, 2 if stage > 0 and block == 0 else 1))
                self.blocks.append(name)
                inputs = outputs
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        """Maps images [B, 3, H, W] to features [B, 8 * width]."""
        x = F.relu(self.stem_norm(self.stem(x)))
        for name in self.blocks:
            x = getattr(self, name)(x)
        return x.mean(dim=(2, 3))


class Projector(nn.Module):
    """A head of two affine layers with batch norm after each, and no ReLU on the output."""

    def __init__(self, inputs: int, hidden: int, outputs: int):
        super().__init__()
        self.hidden, self.hidden_norm = nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden)
        self.output, self.output_norm = nn.Linear(hidden, outputs), nn.BatchNorm1d(outputs)

    def forward(self, x):
        """Maps [B, inputs] to [B, outputs]."""
        return self.output_norm(self.output(F.relu(self.hidden_norm(self.hidden(x)))))


class Predictor(nn.Module):
    """A head that maps through a bottleneck back to the dimension of its input."""

    def __init__(self, inputs: int, hidden: int):
        super().__init__()
        self.hidden, self.hidden_norm = nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden)
        self.output = nn.Linear(hidden, inputs)

    def forward(self, x):
        """Maps [B, inputs] to [B, inputs]."""
        return self.output(F.relu(self.hidden_norm(self.hidden(x))))


class SimSiam(nn.Module):
    """The network of SimSiam: backbone, projector and predictor, with the sizes of a config tree."""

    def __init__(self, config):
        super().__init__()
        heads = config.objective
        self.backbone = ResNet18(config.model.width)
        self.projector = Projector(8 * config.model.width, heads.hidden_dim, heads.output_dim)
        self.predictor = Predictor(heads.output_dim, heads.predictor_dim)

    def forward(self, x):
        """Maps images [B, 3, H, W] to projection and prediction, [B, output_dim] each."""
        projection = self.projector(self.backbone(x))
        return projection, self.predictor(projection)


LEAVES = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var", "kernel": "weight"}
AXES = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}  # number of axes -> PyTorch's order of the axes of HWIO, [in, out]


def from_ours(*trees) -> dict[str, torch.Tensor]:
    """Returns trees of ucl_jax, parameters and statistics, as the state dict of a SimSiam."""
    named = {}
    for tree in trees:
        for path, leaf in flatten_dict(tree).items():
            *layer, name = (part for part in path if part not in ("conv", "dense"))
            array = np.asarray(leaf)
            named[".".join((*layer, LEAVES[name]))] = torch.tensor(array.transpose(AXES[array.ndim]))
    return named


def simsiam_loss(network: nn.Module, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Returns SimSiam's loss: the negative cosine of each view's prediction and the other's projection, averaged."""
    (z1, p1), (z2, p2) = network(first), network(second)

    def distance(prediction, target):
        return -F.cosine_similarity(prediction.float(), target.detach().float(), dim=-1).mean()

    return 0.5 * distance(p1, z2) + 0.5 * distance(p2, z1)


def mix(present: torch.Tensor, past: torch.Tensor, weight) -> torch.Tensor:
    """Returns `weight * present + (1 - weight) * past`."""
    return weight * present + (1 - weight) * past


class Program:
    """What both programs share: the network, the optimiser, and fixed views for a forward and backward pass alone."""

    def __init__(self, config, images: np.ndarray):
        train = config.train
        self.augment = a = SimpleNamespace(**config.augment)  # quicker to access, and the compiler understands it
        self.config, self.images, self.device = config, images, device()
        self.capacity = config.method.buffer_size if config.method.name == "lump" else 0  # 0: there is no memory
        self.batch, self.seen = train.batch_size, 0
        self.network = self.lay(SimSiam(config).to(self.device))
        self.optimizer = torch.optim.SGD(
            self.network.parameters(),
            train.learning_rate * train.batch_size / 256,
            momentum=train.momentum,
            weight_decay=train.weight_decay,
            **self.optimizer_settings(),
        )
        self.normal = [self.statistics(*pair) for pair in ((a.mean, a.std), (a.replay_mean, a.replay_std))]
        size = config.benchmark.image_size
        self.fixed = [self.lay(torch.rand(self.batch, 3, size, size, device=self.device)) for _ in range(4)]
        self.shown = images[: config.eval.batch_size]

    def lay(self, value):
        """Returns a network or a batch of images in the program's memory format."""
        return value

    def optimizer_settings(self) -> dict:
        """Returns further arguments of the optimiser."""
        return {}

    def statistics(self, *values):
        """Returns mean and deviation of the colour channels as `normalised` takes them, [3, 1, 1] each."""
        return [torch.tensor(value).reshape(3, 1, 1) for value in values]

    @property
    def facts(self) -> dict:
        """The number of parameters and of threads, the version of PyTorch, and the device."""
        return {
            "parameters": sum(p.numel() for p in self.network.parameters()),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "torch_device": torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu",
        }

    def update(self, loss: torch.Tensor) -> None:
        """Takes a step of SGD."""
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


# The plain loop: transforms of PIL images, one at a time.


def crop_box(size: int, scale: tuple[float, float]) -> tuple[int, int, int, int]:
    """Draws a part of a square image as torchvision's RandomResizedCrop does: left, top, right, lower."""
    for _ in range(ATTEMPTS):
        area = size * size * random.uniform(*scale)
        aspect = np.exp(random.uniform(np.log(RATIO[0]), np.log(RATIO[1])))
        width, height = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
        if 0 < width <= size and 0 < height <= size:
            left, top = random.randint(0, size - width), random.randint(0, size - height)
            return left, top, left + width, top + height
    return 0, 0, size, size  # torchvision's fallback; a square image is within RATIO as it is


def crop_and_flip(image: Image.Image, scale: tuple[float, float], flip: float, method) -> Image.Image:
    """Returns a random part of an image, resized to the image's size and mirrored at random."""
    image = image.crop(crop_box(image.width, scale)).resize(image.size, method)
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < flip else image


def shift_hue(image: Image.Image, turns: float) -> Image.Image:
    """Turns the hue, in steps of 1 / 256."""
    hue, saturation, value = image.convert("HSV").split()
    hue = Image.fromarray(np.asarray(hue) + np.uint8(int(turns * 255) % 256))
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


def jitter(image: Image.Image, strengths: tuple[float, float, float, float]) -> Image.Image:
    """Changes brightness, contrast, saturation and hue, each by a random amount, in random order."""
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for op in random.sample(range(4), 4):
        if op == HUE:
            image = shift_hue(image, random.uniform(-strengths[HUE], strengths[HUE]))
        else:
            low, high = max(0.0, 1 - strengths[op]), 1 + strengths[op]
            image = enhancers[op](image).enhance(random.uniform(low, high))
    return image


def normalised(image, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """Returns an image, uint8 [H, W, 3] or of PIL, as a normalised float tensor [3, H, W]."""
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div_(255)
    return tensor.sub_(mean).div_(std)


def strong_view(image: Image.Image, a, normal) -> torch.Tensor:
    """Returns SimSiam's view of an image, [3, H, W], by the settings `a` of config.augment."""
    image = crop_and_flip(image, a.crop_scale, a.flip, Image.Resampling.BILINEAR)
    if random.random() < a.jitter_p:
        image = jitter(image, a.jitter)
    if random.random() < a.gray_p:
        image = image.convert("L").convert("RGB")
    if image.width > BLUR_ABOVE and random.random() < BLUR_P:
        image = image.filter(ImageFilter.GaussianBlur(random.uniform(*BLUR_SIGMA)))
    return normalised(image, *normal)


def weak_view(image: Image.Image, a, normal) -> torch.Tensor:
    """Returns the view of a replayed image, [3, H, W]."""
    return normalised(crop_and_flip(image, a.replay_crop_scale, a.flip, Image.Resampling.BICUBIC), *normal)


class Views(Dataset):
    """A data set of images: two views of each, and the image as it is."""

    def __init__(self, images: np.ndarray, a, normal):
        self.images, self.a, self.normal = images, a, normal

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index):
        image = Image.fromarray(self.images[index])
        return *(strong_view(image, self.a, self.normal) for _ in range(2)), self.images[index]


class Forever(Sampler):
    """A sampler of permutations without end, so that workers never wait for an epoch to begin."""

    def __init__(self, count: int):
        self.count = count

    def __iter__(self):
        while True:
            yield from torch.randperm(self.count).tolist()


class Epochs(Sampler):
    """A sampler of batches without end: permutations, each cut into batches, of which the last may be smaller.

    This is what `DataLoader(shuffle=True)` of the official code gives, epoch after epoch.
    """

    def __init__(self, count: int, batch: int):
        self.count, self.batch = count, batch

    def __iter__(self):
        while True:
            for indices in torch.randperm(self.count).split(self.batch):
                yield indices.tolist()


class Plain(Program):
    """The plain loop of finetune or, with a memory, of LUMP, in float32 with the buffer on the host.

    PIL makes the views of present images in worker processes, and those of replayed images in this process. With 0
    workers it makes all of them in this process.
    """

    def __init__(self, config, images: np.ndarray, workers: int = 4):
        super().__init__(config, images)
        size, self.workers = config.benchmark.image_size, workers
        self.load(images, BatchSampler(Forever(len(images)), self.batch, drop_last=False))
        queue = workers * (self.loader.prefetch_factor or 0)
        self.raw = torch.zeros(self.capacity, size, size, 3, dtype=torch.uint8)
        self.frozen = torch.zeros(self.capacity, 3, size, size)
        self.parts = {
            "augmentation": self.augment_only,
            "forward + backward": self.backward_only,
            "buffer": self.buffer_only,
            "evaluation": self.evaluate,
        }
        # Batches that the workers prepared before a measurement must not be timed.
        self.untimed = {"step": 2 * queue, "augmentation": 2 * queue}
        self.mode = f"eager, float32, {workers} workers"

    def load(self, images: np.ndarray, batches: Sampler) -> None:
        """Makes a data loader of images, uint8 [N, H, W, 3], in batches that a sampler without end gives."""
        dataset, pin = Views(images, self.augment, self.normal[0]), self.device.type == "cuda"
        with warnings.catch_warnings():
            # PyTorch warns where there are more workers than cores.
            warnings.filterwarnings("ignore", "This DataLoader will create")
            self.loader = DataLoader(dataset, batch_sampler=batches, num_workers=self.workers, pin_memory=pin)
            self.batches = iter(self.loader)

    def begin_task(self, images: np.ndarray) -> None:
        """Goes on with the images of a task, uint8 [N, H, W, 3], in epochs as the official code has them.

        Network, statistics, optimiser and memory stay as they are.
        """
        self.load(images, Epochs(len(images), self.batch))

    def step(self) -> torch.Tensor:
        """Takes a training step and returns its loss."""
        first, second, raw = next(self.batches)
        views = first.to(self.device), second.to(self.device)
        if self.seen:
            slots = self.recall()[: len(raw)]  # the last batch of an epoch may be smaller
            past = self.weak(slots).to(self.device), self.frozen[slots].to(self.device)
            weight = float(np.random.beta(self.config.method.alpha, self.config.method.alpha))  # noqa: NPY002
            views = [mix(x, y, weight) for x, y in zip(views, past)]
        loss = simsiam_loss(self.network, *views)
        self.update(loss)
        if self.capacity:
            self.observe(raw, second)
        return loss.detach()

    def recall(self) -> list[int]:
        """Draws the slots of a batch without replacement; where fewer are filled, all of them equally often."""
        filled = min(self.seen, self.capacity)
        order = random.sample(range(filled), min(filled, self.batch))
        return [order[i % len(order)] for i in range(self.batch)]

    def weak(self, slots: list[int]) -> torch.Tensor:
        """Returns the views of stored images, [B, 3, H, W], made one at a time."""
        images = [Image.fromarray(self.raw[slot].numpy()) for slot in slots]
        return torch.stack([weak_view(image, self.augment, self.normal[1]) for image in images])

    def observe(self, raw: torch.Tensor, frozen: torch.Tensor) -> None:
        """Updates the buffer by reservoir sampling, one image after the other."""
        for image, view in zip(raw, frozen):
            slot = self.seen if self.seen < self.capacity else random.randint(0, self.seen)
            self.seen += 1
            if slot < self.capacity:
                self.raw[slot], self.frozen[slot] = image, view

    def augment_only(self) -> None:
        """Makes the views of a present batch and of a replayed one."""
        next(self.batches)
        self.weak(self.recall())

    def backward_only(self) -> None:
        """Computes loss and gradients of fixed views."""
        simsiam_loss(self.network, *self.fixed[:2]).backward()
        self.optimizer.zero_grad()

    def buffer_only(self) -> None:
        """Draws a batch from the buffer, and updates the buffer."""
        slots = self.recall()
        frozen = self.frozen[slots]
        self.observe(self.raw[slots], frozen)

    def evaluate(self) -> np.ndarray:
        """Returns the features of a batch of images, [N, F]."""
        return self.features(self.shown)

    @torch.no_grad()
    def features(self, images: np.ndarray) -> np.ndarray:
        """Returns the features of images as they are, uint8 [N, H, W, 3] -> float32 [N, F]."""
        self.network.eval()
        views = torch.stack([normalised(Image.fromarray(image), *self.normal[0]) for image in images])
        features = self.network.backbone(views.to(self.device)).cpu().numpy()
        self.network.train()
        return features


def measured_step(program: Plain) -> dict[str, float]:
    """Takes a training step and returns its metrics, by the names that ours have in metrics.jsonl.

    Returns:
      loss: of the step.
      grad_norm: the L2 norm of the gradients of all parameters, without weight decay.
      feature_std: the mean standard deviation of the first views' features of unit length, times sqrt(F).
    """
    features, norms = [], []

    def keep_features(module, images, output):
        features.append(F.normalize(output.detach()))

    def keep_norm(optimizer, arguments, keywords):
        norms.append(torch.nn.utils.get_total_norm([p.grad for p in program.network.parameters()]).item())

    hooks = (
        program.network.backbone.register_forward_hook(keep_features),
        program.optimizer.register_step_pre_hook(keep_norm),
    )
    loss = program.step().item()
    for hook in hooks:
        hook.remove()
    first = features[0]
    spread = first.std(dim=0, correction=0).mean().item() * first.shape[1] ** 0.5
    return {"loss": loss, "grad_norm": norms[0], "feature_std": spread}


# PyTorch at its best: transforms of batches on the device, float [B, 3, H, W] in [0, 1].


def luma(images: torch.Tensor) -> torch.Tensor:
    """Returns the brightness of images [B, 3, H, W], [B, 1, H, W]."""
    red, green, blue = images.split(1, dim=1)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def blend(images: torch.Tensor, other: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Blends each image by its factor [B], from `other` (factor 0) to `images` (factor 1) and beyond; clips."""
    factor = factor[:, None, None, None]
    return (factor * images + (1 - factor) * other).clamp(0, 1)


def adjust_hue(images: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Turns the hue of each image, in HSV, by a part of a full turn, [B]."""
    red, green, blue = images.unbind(1)
    value = images.amax(1)
    chroma = value - images.amin(1)
    safe = torch.where(chroma == 0, 1.0, chroma)
    sextant = torch.where(green >= blue, (blue - red) / safe + 2, (red - green) / safe + 4)
    sextant = torch.where((red >= green) & (red >= blue), (green - blue) / safe, sextant)

    def channel(n):
        k = torch.remainder(sextant + n + 6 * turns[:, None, None], 6.0)
        return value - chroma * torch.minimum(k, 4 - k).clamp(0, 1)

    return torch.stack([channel(5.0), channel(3.0), channel(1.0)], dim=1)


def apply_jitter(images: torch.Tensor, factors: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """Changes brightness, contrast, saturation and hue of each image, in an order of its own.

    Hue is costly and is changed once for the whole batch. The other changes are blends: three passes before the hue and
    three after it, where a factor of 1 leaves alone the images whose change is not due in that pass.

    Args:
      images: [B, 3, H, W].
      factors: [B, 4], of BRIGHTNESS, CONTRAST, SATURATION, HUE.
      order: [B, 4], permutations of these.
    """
    hue_place = (order == HUE).int().argmax(1)

    def adjust(images, place, active):
        op = order[:, place]
        factor = torch.where(active & (op != HUE), factors.gather(1, op[:, None])[:, 0], 1.0)
        grey, kind = luma(images), op[:, None, None, None]
        flat = torch.where(kind == CONTRAST, grey.mean((2, 3), keepdim=True), 0.0)
        return blend(images, torch.where(kind == SATURATION, grey, flat), factor)

    for place in (0, 1, 2):
        images = adjust(images, place, place < hue_place)
    images = adjust_hue(images, factors[:, HUE])
    for place in (1, 2, 3):
        images = adjust(images, place, place > hue_place)
    return images


def random_crops(images: torch.Tensor, scale: tuple[float, float], flip: float, method: str) -> torch.Tensor:
    """Returns a random part of each square image, resized to its size and mirrored at random; see `crop_box`."""
    count, size, at = len(images), images.shape[-1], images.device
    area = size * size * torch.empty(count, ATTEMPTS, device=at).uniform_(*scale)
    aspect = RATIO[0] * (RATIO[1] / RATIO[0]) ** torch.rand(count, ATTEMPTS, device=at)
    sides = torch.stack([area * aspect, area / aspect], dim=-1).sqrt().round()  # width, height
    fits = ((sides > 0) & (sides <= size)).all(-1)
    first = fits.int().argmax(1)[:, None, None].expand(-1, 1, 2)
    sides = torch.where(fits.any(1)[:, None], sides.gather(1, first)[:, 0], float(size))
    corner = (torch.rand(count, 2, device=at) * (size - sides + 1)).floor()
    pixel = ((torch.arange(size, device=at) + 0.5) / size)[None, :, None]  # of the view, from 0 to 1
    place = 2 * (corner[:, None] + pixel * sides[:, None]) / size - 1  # [B, size, 2], from -1 to 1
    across = place[..., 0]
    mirrored = torch.rand(count, 1, device=at) < flip
    across = torch.where(mirrored, across.flip(1), across)
    grid = torch.stack(torch.broadcast_tensors(across[:, None, :], place[:, :, None, 1]), dim=-1)
    return F.grid_sample(images, grid, method, "border", align_corners=False).clamp(0, 1)


def blurred(images: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Blurs each image by a Gaussian of sigma [B] pixels, one axis after the other; edges are reflected."""
    half = images.shape[-1] // 20
    offset = torch.arange(-half, half + 1, device=images.device)
    taps = torch.exp(-0.5 * (offset / sigma[:, None]) ** 2)
    taps = (taps / taps.sum(1, keepdim=True))[:, :, None, None, None]
    rows = F.pad(images, (0, 0, half, half), "reflect").unfold(2, images.shape[2], 1)  # [B, 3, taps, W, H]
    images = (rows * taps.permute(0, 2, 1, 3, 4)).sum(2).transpose(2, 3)
    columns = F.pad(images, (half, half, 0, 0), "reflect").unfold(3, images.shape[3], 1)  # [B, 3, H, taps, W]
    return (columns * taps.permute(0, 2, 3, 1, 4)).sum(3)


def strong_views(images: torch.Tensor, a, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """Returns SimSiam's views of a batch by the settings `a` of config.augment."""
    count, at = len(images), images.device
    images = random_crops(images, a.crop_scale, a.flip, "bilinear")

    def sometimes(p, changed):
        return torch.where(torch.rand(count, 1, 1, 1, device=at) < p, changed, images)

    low = torch.tensor([max(0.0, 1 - x) for x in a.jitter[:3]] + [-a.jitter[3]], device=at)
    high = torch.tensor([1 + x for x in a.jitter[:3]] + [a.jitter[3]], device=at)
    factors = low + (high - low) * torch.rand(count, 4, device=at)
    images = sometimes(a.jitter_p, apply_jitter(images, factors, torch.rand(count, 4, device=at).argsort(1)))
    images = sometimes(a.gray_p, luma(images).expand_as(images))
    if images.shape[-1] > BLUR_ABOVE:
        sigma = BLUR_SIGMA[0] + (BLUR_SIGMA[1] - BLUR_SIGMA[0]) * torch.rand(count, device=at)
        images = sometimes(BLUR_P, blurred(images, sigma))
    return (images - mean) / std


def reservoir_slots(rng: np.random.Generator, seen: int, capacity: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws which of the next `count` images are kept by reservoir sampling, and the slot that each takes.

    Where several take the same slot, only the last of them is returned.
    """
    position = seen + np.arange(count)
    slot = np.where(position < capacity, position, rng.integers(0, position + 1))
    rows = np.flatnonzero(slot < capacity)[::-1]
    slots, last = np.unique(slot[rows], return_index=True)
    return rows[last], slots


class Best(Program):
    """PyTorch at its best: channels last, bfloat16 by autocast, compiled, with augmentation and buffer on the device.

    Nothing is copied back to the host. The constructor's `mode` is "eager" or a mode of torch.compile.
    """

    def __init__(self, config, images: np.ndarray, mode: str = "default"):
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
        super().__init__(config, images)
        size, a, kind = config.benchmark.image_size, self.augment, self.device.type
        self.rng = np.random.default_rng(0)
        self.images = torch.from_numpy(images)
        self.order = iter(Forever(len(images)))
        self.raw = torch.zeros(self.capacity, size, size, 3, dtype=torch.uint8, device=self.device)
        self.frozen = self.lay(torch.zeros(self.capacity, 3, size, size, device=self.device))
        self.mode = f"{'eager' if mode == 'eager' else f'torch.compile, mode {mode}'}, bfloat16, channels last"

        def compiled(function):
            return function if mode == "eager" else torch.compile(function, mode=mode, dynamic=False, fullgraph=True)

        def to_float(raw):
            return self.lay(raw.permute(0, 3, 1, 2).float() / 255)

        def two_views(raw):
            views = strong_views(to_float(torch.cat([raw, raw])), a, *self.normal[0])
            return views.chunk(2)

        def weak(raw):
            mean, std = self.normal[1]
            return (random_crops(to_float(raw), a.replay_crop_scale, a.flip, "bicubic") - mean) / std

        def loss(first, second, past_first, past_second, weight):
            views = mix(first, past_first, weight), mix(second, past_second, weight)
            with torch.autocast(kind, torch.bfloat16):
                return simsiam_loss(self.network, *map(self.lay, views))

        def features(raw):
            mean, std = self.normal[0]
            with torch.autocast(kind, torch.bfloat16):
                return self.network.backbone((to_float(raw) - mean) / std).float()

        self.two_views, self.weak = compiled(two_views), compiled(weak)
        self.loss, self.features = compiled(loss), compiled(features)
        self.fixed_raw = self.put(self.images[: self.batch])
        self.one = torch.ones((), device=self.device)
        self.parts = {
            "augmentation": self.augment_only,
            "forward + backward": self.backward_only,
            "buffer": self.buffer_only,
            "input": self.next_batch,
            "evaluation": self.evaluate,
        }
        self.untimed = {}

    def lay(self, value):
        """Returns a network or images in channels-last order."""
        return value.to(memory_format=torch.channels_last)

    def optimizer_settings(self) -> dict:
        """Returns the argument that makes the optimiser update all parameters in one kernel."""
        return {"fused": True}

    def statistics(self, *values):
        """Returns mean and deviation on the device."""
        return [value.to(self.device) for value in super().statistics(*values)]

    def put(self, tensor: torch.Tensor) -> torch.Tensor:
        """Returns a tensor on the device, without waiting for the copy."""
        if self.device.type == "cpu":
            return tensor
        return tensor.pin_memory().to(self.device, non_blocking=True)

    def next_batch(self) -> torch.Tensor:
        """Returns the next images, uint8 [B, H, W, 3] on the device."""
        index = torch.tensor([next(self.order) for _ in range(self.batch)])
        return self.put(self.images.index_select(0, index))

    def recall(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Draws stored images for a batch; returns them and their frozen views."""
        filled = max(min(self.seen, self.capacity), 1)
        slots = self.put(torch.from_numpy(np.resize(self.rng.permutation(filled), self.batch)))
        return self.raw.index_select(0, slots), self.frozen.index_select(0, slots)

    def observe(self, raw: torch.Tensor, frozen: torch.Tensor) -> None:
        """Updates the buffer by reservoir sampling of a batch; the host draws, which needs nothing from the device."""
        rows, slots = reservoir_slots(self.rng, self.seen, self.capacity, self.batch)
        self.seen += self.batch
        if len(rows):
            rows, slots = self.put(torch.from_numpy(rows)), self.put(torch.from_numpy(slots))
            self.raw.index_copy_(0, slots, raw.index_select(0, rows))
            self.frozen.index_copy_(0, slots, frozen.index_select(0, rows))

    def begin(self) -> None:
        """Tells CUDA graphs that the results of the last step may be overwritten."""
        if self.device.type == "cuda":
            torch.compiler.cudagraph_mark_step_begin()

    def step(self) -> None:
        """Takes a training step; with an empty buffer the weight of the present is 1."""
        self.begin()
        raw = self.next_batch()
        first, second = self.two_views(raw)
        past, past_second = self.recall()
        alpha = self.config.method.alpha
        weight = self.put(torch.tensor(self.rng.beta(alpha, alpha), dtype=torch.float32)) if self.seen else self.one
        self.update(self.loss(first, second, self.weak(past), past_second, weight))
        self.observe(raw, second)

    def augment_only(self) -> None:
        """Makes the views of a present batch and of a replayed one."""
        self.begin()
        self.two_views(self.fixed_raw)
        self.weak(self.fixed_raw)

    def backward_only(self) -> None:
        """Computes loss and gradients of fixed views."""
        self.begin()
        self.loss(*self.fixed, self.one).backward()
        self.optimizer.zero_grad()

    def buffer_only(self) -> None:
        """Draws a batch from the buffer, and updates the buffer."""
        _, frozen = self.recall()
        self.observe(self.fixed_raw, frozen)

    @torch.no_grad()
    def evaluate(self) -> np.ndarray:
        """Returns the features of a batch of images, [N, F]."""
        self.begin()
        self.network.eval()
        features = self.features(self.put(torch.from_numpy(self.shown))).cpu().numpy()
        self.network.train()
        return features


def make(program: str, config, images: np.ndarray, mode: str) -> Program:
    """Makes a program and takes its first step.

    PyTorch at its best is compiled in the mode that is asked for or, where that fails, by default or not at all. The
    program's `mode` says which, and why another one failed.

    Args:
      program: "torch_plain" or "torch_best".
      config: the config tree.
      images: the images of a task, uint8 [N, H, W, 3].
      mode: "auto" (CUDA graphs on a GPU, else the default), "eager", or a mode of torch.compile.

    Raises:
      RuntimeError: the program failed in every mode.
    """
    if program == "torch_plain":
        made = Plain(config, images)
        made.step()
        return made
    asked = ("reduce-overhead" if device().type == "cuda" else "default") if mode == "auto" else mode
    reasons = []
    for one in dict.fromkeys((asked, "default", "eager")):
        try:
            made = Best(config, images, one)
            made.step()
            wait()
        except Exception as error:  # whatever a compiler may raise
            reasons.append(f"{one} failed: {type(error).__name__}: {str(error).strip().splitlines()[0]}")
        else:
            made.mode = "; ".join((made.mode, *reasons))
            return made
    raise RuntimeError("; ".join(reasons))


def rates(seconds) -> dict[str, float]:
    """Measures the machine: FLOP/s of square matrix products, the best of several sizes, and bytes/s of a copy.

    A copy counts the bytes that are read and those that are written.

    Args:
      seconds: a function (work, repeats) -> seconds a call.
    """
    found = {}
    for dtype in ("float32", "bfloat16"):
        for size in (4096, 8192) if device().type == "cuda" else (1024, 2048, 3072):
            x = torch.rand(size, size, device=device(), dtype=getattr(torch, dtype))
            y = torch.empty_like(x)

            def product(x=x, y=y):
                torch.mm(x, x, out=y)

            product()
            rate = 2 * size**3 / min(seconds(product, 3) for _ in range(3))
            found[dtype] = max(found.get(dtype, 0.0), rate)
    x = torch.ones(2**27, device=device())  # an array of zeros would be one page of memory
    y = torch.ones_like(x)
    found["copy"] = 2 * x.nbytes / min(seconds(lambda: y.copy_(x), 3) for _ in range(3))
    return found
