"""Names of the variables in which an engine tells a task about its nodes."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from string import Template
from typing import ClassVar, Protocol, TypeVar

from nemo_run.config.mixin import ConfigurableMixin


class NodeVariables(Protocol):
    """An executor whose constants name these variables."""

    HEAD_NODE_IP_VAR: ClassVar[str]
    NPROC_PER_NODE_VAR: ClassVar[str]
    NUM_NODES_VAR: ClassVar[str]
    NODE_RANK_VAR: ClassVar[str]
    HET_GROUP_HOST_VAR: ClassVar[str]


class Role(Protocol):
    """A command as TorchX has it."""

    args: list[str]
    env: dict[str, str]


RoleT = TypeVar("RoleT", bound=Role)


@dataclass(kw_only=True)
class ExecutorMacros(ConfigurableMixin):
    """Names of the shell variables in which an engine tells a task about its nodes.

    In a command, ``${head_node_ip_var}`` and the like stand for them.
    """

    __module__ = "nemo_run.core.execution.base"  # as stored experiments call it

    HEAD_NODE_IP_VAR: ClassVar[str] = "${head_node_ip_var}"
    NPROC_PER_NODE_VAR: ClassVar[str] = "${nproc_per_node_var}"
    NUM_NODES_VAR: ClassVar[str] = "${num_nodes_var}"
    NODE_RANK_VAR: ClassVar[str] = "${node_rank_var}"
    FT_LAUNCHER_CFG_PATH_VAR: ClassVar[str] = "${ft_launcher_cfg_path_var}"

    head_node_ip_var: str
    nproc_per_node_var: str
    num_nodes_var: str
    node_rank_var: str
    het_group_host_var: str
    ft_launcher_cfg_path_var: str = "FAULT_TOL_CFG_PATH"

    @classmethod
    def of(cls, names: NodeVariables) -> ExecutorMacros:
        """Return what the constants of an executor say."""
        return cls(
            head_node_ip_var=names.HEAD_NODE_IP_VAR,
            nproc_per_node_var=names.NPROC_PER_NODE_VAR,
            num_nodes_var=names.NUM_NODES_VAR,
            node_rank_var=names.NODE_RANK_VAR,
            het_group_host_var=names.HET_GROUP_HOST_VAR,
        )

    @staticmethod
    def group_host(index: int) -> str:
        """Return the macro for the head node of the ``index``-th member of a job group."""
        return f"$$${{het_group_host_var}}_{index}"

    def apply(self, role: RoleT) -> RoleT:
        """Return a copy of a role of TorchX, or of what else has ``args`` and ``env``, with every macro replaced."""
        changed = copy.deepcopy(role)
        changed.args = [self.substitute(arg) for arg in role.args]
        changed.env = {key: self.substitute(value) for key, value in role.env.items()}
        return changed

    def substitute(self, arg: str) -> str:
        """``arg`` with every macro replaced; anything else that looks like one stays."""
        return Template(arg).safe_substitute(**asdict(self))
