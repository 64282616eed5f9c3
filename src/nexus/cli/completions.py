"""``nexus completions``: what teaches a shell to complete ``nexus``."""

from __future__ import annotations

import click

__all__ = ["completions"]

_VARIABLE = "_NEXUS_COMPLETE"

_BASH = """\
# Completion of nexus for bash, made by: nexus completions bash
_nexus_completion() {
    # Split at blanks, as bash would not: model names hold colons.
    local line="${COMP_LINE:0:COMP_POINT}" words cur kind value
    read -ra words <<< "$line"
    [[ "$line" == *[[:space:]] ]] && words+=("")
    cur="${words[-1]}"
    COMPREPLY=()
    while IFS=, read -r kind value; do
        case "$kind" in
            plain) COMPREPLY+=("$value") ;;
            file) compopt -o default ;;
            dir) compopt -o dirnames ;;
        esac
    done < <(IFS=$'\\n'; COMP_WORDS="${words[*]}" COMP_CWORD=$((${#words[@]} - 1)) \\
        _NEXUS_COMPLETE=bash_complete "$1" 2>/dev/null)
    if [[ "$cur" == *:* && "$COMP_WORDBREAKS" == *:* ]]; then
        local begun="${cur%"${cur##*:}"}"
        COMPREPLY=("${COMPREPLY[@]#"$begun"}")
    fi
}
complete -o nosort -F _nexus_completion nexus
"""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completions(context: click.Context, shell: str) -> None:
    """Print what teaches SHELL to complete nexus: commands, options, names of backends and models.

    \b
    bash  eval "$(nexus completions bash)"        in ~/.bashrc
    zsh   eval "$(nexus completions zsh)"         in ~/.zshrc
    fish  nexus completions fish | source         in ~/.config/fish/config.fish
    """
    if shell == "bash":
        click.echo(_BASH, nl=False)
        return
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(context.find_root().command, {}, "nexus", _VARIABLE).source())
