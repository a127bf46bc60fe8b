"""The list of commands in `tillstream --help`, in groups by the user's purpose."""

import click

#: The commands of each group, in the order of the list.
GROUPS = {
    "Run": ("run", "check", "post", "schedule"),
    "Monitor": ("top", "ledger", "explain"),
    "Repair": ("dlq", "reconcile"),
    "Connect a source": ("inspect", "map", "import"),
    "Try it out": ("demo", "tills"),
}
#: Characters of a command's first help line. Longer ones would be cut off on a terminal of 80 columns.
MAX_HELP_LINE = 60


class CommandGroups(click.Group):
    """A program whose help lists its commands in `GROUPS`. Commands without a group come last, under "Other"."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the groups, each with its commands and their first help lines."""
        groups = {
            **GROUPS,
            "Other": sorted(self.commands.keys() - {name for names in GROUPS.values() for name in names}),
        }
        width = max(map(len, self.commands), default=0)
        for title, names in groups.items():
            commands = [self.commands[name] for name in names if name in self.commands]
            rows = [(f"{command.name:{width}}", first_line(command)) for command in commands if not command.hidden]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


def first_line(command: click.Command) -> str:
    """Return the first line of the command's help."""
    lines = (command.help or "").strip().splitlines()
    return lines[0] if lines else ""
