"""The reference: experts, distillation and evaluation in the plain style of the field's released code (MTT, SelMatch).

A data loader over tensors on the device, modules called batch by batch, ``.item()`` after every batch, an unroll whose
whole graph is kept, an index into the whole synthetic set at every inner step, augmentation of one image at a time in
evaluation. Random numbers come from the global generator, as there. Only two known faults are left out: snapshots are
copied (there, ``.cpu()`` aliases on a CPU) and nothing re-seeds from the clock. Our own code; the networks are those of
``distillkit.networks.specs``, whose layers are the field's.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from cases import CLASSES, Case, DistillationCase, EvaluationCase, ExpertsCase, Implementation, Task, random_images
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchvision import transforms

from distillkit.networks.specs import build_network

OPERATIONS = ("color", "crop", "cutout", "flip", "scale", "rotate")


def fresh_network(case: Case, device: torch.device, seed: int = 0) -> nn.Module:
    return build_network(case.spec, (3, case.side, case.side), CLASSES, seed).to(device)


def train_epoch(
    network: nn.Module,
    loader: DataLoader[tuple[Tensor, Tensor]],
    optimizer: torch.optim.Optimizer,
    device: torch.device,
) -> tuple[float, float]:
    """One pass over the loader; mean loss and accuracy, accounted batch by batch on the host."""
    criterion = nn.CrossEntropyLoss().to(device)
    total_loss, total_right, seen = 0.0, 0, 0
    network.train()
    for batch_images, batch_labels in loader:
        images, labels = batch_images.float().to(device), batch_labels.long().to(device)
        output = network(images)
        loss = criterion(output, labels)
        predicted = np.argmax(output.detach().cpu().numpy(), axis=-1)
        total_right += int(np.sum(np.equal(predicted, labels.cpu().numpy())))
        total_loss += loss.item() * len(labels)
        seen += len(labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return total_loss / seen, total_right / seen


def experts(case: ExpertsCase, device: torch.device) -> Task:
    """One epoch of plain SGD without augmentation, then a snapshot of the parameters on the host."""
    images, labels = random_images(case.images, case.side, device)
    loader = DataLoader(TensorDataset(images, labels), batch_size=case.batch, shuffle=True, num_workers=0)
    network = fresh_network(case, device)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0, weight_decay=0)
    trajectory: list[list[Tensor]] = []

    def epoch() -> None:
        train_epoch(network, loader, optimizer, device)
        trajectory[:] = [[parameter.detach().cpu().clone() for parameter in network.parameters()]]

    return Task(run=epoch, warm=epoch)


class FlatNetwork(nn.Module):
    """A network called with all its parameters in one vector."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        self.names = [name for name, _ in network.named_parameters()]
        self.shapes = [parameter.shape for parameter in network.parameters()]

    def flat(self) -> Tensor:
        return torch.cat([parameter.detach().reshape(-1) for parameter in self.network.parameters()])

    def forward(self, images: Tensor, flat: Tensor) -> Tensor:
        parts = flat.split([shape.numel() for shape in self.shapes])
        named = {name: part.view(shape) for name, part, shape in zip(self.names, parts, self.shapes, strict=True)}
        logits: Tensor = functional_call(self.network, named, (images,))
        return logits


def distillation(case: DistillationCase, device: torch.device) -> Task:
    """One outer step: draw batches, unroll, match, differentiate through everything, step images and step size."""
    network = FlatNetwork(fresh_network(case, device)).train()
    images, labels = random_images(case.ipc * CLASSES, case.side, device)
    learned, frozen = images.chunk(2)
    learned = learned.clone().requires_grad_()
    student_lr = torch.tensor(0.01, device=device, requires_grad=True)
    image_optimizer = torch.optim.SGD([learned], lr=1.0, momentum=0.5)
    lr_optimizer = torch.optim.SGD([student_lr], lr=1e-7, momentum=0.5)
    criterion = nn.CrossEntropyLoss().to(device)
    start = network.flat()
    target = start + 0.01 * torch.randn_like(start)

    def outer_step(steps: int) -> None:
        synthetic = torch.cat([learned, frozen])
        students = [start.clone().requires_grad_()]
        batches: list[Tensor] = []
        for _ in range(steps):
            if not batches:
                batches = list(torch.randperm(len(synthetic), device=device).split(case.batch))
            rows = batches.pop()
            batch_images = synthetic[rows]
            if case.dsa:
                batch_images = augment_batch(batch_images)
            loss = criterion(network(batch_images, students[-1]), labels[rows])
            (gradient,) = torch.autograd.grad(loss, students[-1], create_graph=True)
            students.append(students[-1] - student_lr * gradient)
        distance = F.mse_loss(students[-1], target, reduction="sum") / len(start)
        moved = F.mse_loss(start, target, reduction="sum") / len(start)
        grand_loss = distance / moved
        image_optimizer.zero_grad()
        lr_optimizer.zero_grad()
        grand_loss.backward()
        image_optimizer.step()
        lr_optimizer.step()
        grand_loss.item()

    return Task(run=lambda: outer_step(case.steps), warm=lambda: outer_step(1))


class CombinedDataset(Dataset[tuple[Tensor, Tensor]]):
    """A synthetic set whose learned images get one drawn operation each, the real ones a crop and a flip."""

    def __init__(self, images: Tensor, labels: Tensor, learned: Tensor):
        self.images, self.labels, self.learned = images, labels, learned.tolist()
        side = images.shape[2]
        self.simple = transforms.Compose(
            [transforms.RandomCrop(side, padding=side // 8), transforms.RandomHorizontalFlip()]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = self.images[index]
        image = augment_batch(image[None])[0] if self.learned[index] else self.simple(image)
        return image, self.labels[index]


def evaluation(case: EvaluationCase, device: torch.device) -> Task:
    """One epoch of a network on a synthetic set under 'combined' augmentation."""
    images, labels = random_images(case.images, case.side, device)
    dataset = CombinedDataset(images, labels, torch.arange(case.images) % 2 == 0)
    loader = DataLoader(dataset, batch_size=case.batch, shuffle=True, num_workers=0)
    network = fresh_network(case, device)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)

    def epoch() -> None:
        train_epoch(network, loader, optimizer, device)

    return Task(run=epoch, warm=epoch)


def augment_batch(x: Tensor) -> Tensor:
    """One operation, drawn for the batch, with its numbers drawn for each image; x is (N, C, H, W)."""
    name = OPERATIONS[int(torch.randint(len(OPERATIONS), ()))]
    return AUGMENT[name](x)


def uniform(x: Tensor) -> Tensor:
    """(N, 1, 1, 1) numbers in [0, 1)."""
    return torch.rand(len(x), 1, 1, 1, device=x.device)


def color(x: Tensor) -> Tensor:
    x = x + (uniform(x) - 0.5)
    mean = x.mean(dim=1, keepdim=True)
    x = (x - mean) * (uniform(x) * 2) + mean
    mean = x.mean(dim=[1, 2, 3], keepdim=True)
    return (x - mean) * (uniform(x) + 0.5) + mean


def crop(x: Tensor) -> Tensor:
    count, _, height, width = x.shape
    shift_y, shift_x = int(height / 8 + 0.5), int(width / 8 + 0.5)
    move_y = torch.randint(-shift_y, shift_y + 1, (count, 1, 1), device=x.device)
    move_x = torch.randint(-shift_x, shift_x + 1, (count, 1, 1), device=x.device)
    image, row, column = grids(count, height, width, x.device)
    row, column = (row + move_y + 1).clamp(0, height + 1), (column + move_x + 1).clamp(0, width + 1)
    padded = F.pad(x, [1, 1, 1, 1])
    return padded.permute(0, 2, 3, 1).contiguous()[image, row, column].permute(0, 3, 1, 2)


def cutout(x: Tensor) -> Tensor:
    count, _, height, width = x.shape
    size_y, size_x = int(height / 2 + 0.5), int(width / 2 + 0.5)
    centre_y = torch.randint(0, height + (1 - size_y % 2), (count, 1, 1), device=x.device)
    centre_x = torch.randint(0, width + (1 - size_x % 2), (count, 1, 1), device=x.device)
    image, row, column = grids(count, size_y, size_x, x.device)
    row = (row + centre_y - size_y // 2).clamp(0, height - 1)
    column = (column + centre_x - size_x // 2).clamp(0, width - 1)
    mask = torch.ones(count, height, width, dtype=x.dtype, device=x.device)
    mask[image, row, column] = 0
    return x * mask[:, None]


def grids(count: int, height: int, width: int, device: torch.device) -> list[Tensor]:
    """The image, row and column number of every pixel, each (count, height, width)."""
    axes = [torch.arange(size, device=device) for size in (count, height, width)]
    return list(torch.meshgrid(*axes, indexing="ij"))


def flip(x: Tensor) -> Tensor:
    return torch.where(uniform(x) < 0.5, x.flip(3), x)


def scale(x: Tensor) -> Tensor:
    factor_y, factor_x = ((torch.rand(len(x)) * (1.2 - 1 / 1.2) + 1 / 1.2).tolist() for _ in range(2))
    return warp(x, [[[factor_y[i], 0.0, 0.0], [0.0, factor_x[i], 0.0]] for i in range(len(x))])


def rotate(x: Tensor) -> Tensor:
    angles = ((torch.rand(len(x)) - 0.5) * 2 * 15 / 180 * np.pi).tolist()
    return warp(x, [[[np.cos(a), -np.sin(a), 0.0], [np.sin(a), np.cos(a), 0.0]] for a in angles])


def warp(x: Tensor, matrices: list[list[list[float]]]) -> Tensor:
    matrix = torch.tensor(matrices, dtype=torch.float32, device=x.device)
    grid = F.affine_grid(matrix, list(x.shape), align_corners=True)
    return F.grid_sample(x, grid, align_corners=True)


AUGMENT: dict[str, Callable[[Tensor], Tensor]] = {
    "color": color,
    "crop": crop,
    "cutout": cutout,
    "flip": flip,
    "scale": scale,
    "rotate": rotate,
}

IMPLEMENTATIONS: dict[str, dict[str, Implementation]] = {
    "experts": {"reference": Implementation(experts)},
    "distillation": {"reference": Implementation(distillation)},
    "evaluation": {"reference": Implementation(evaluation)},
}
