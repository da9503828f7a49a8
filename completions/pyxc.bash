# SPDX-License-Identifier: MIT
# bash completion for pyxc: the command itself knows what may come next.

_pyxc() {
    local line="${COMP_LINE:0:COMP_POINT}" words current
    read -ra words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    current="${words[-1]}"
    mapfile -t COMPREPLY < <(pyxc __complete "${words[@]:1}" 2>/dev/null)
    if [[ ${COMPREPLY[*]} == __files__ ]]; then
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
    fi
    # Bash takes a colon for the end of a word and replaces only what follows it.
    if [[ $current == *:* && $COMP_WORDBREAKS == *:* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${current%:*}:"}")
    fi
}

complete -F _pyxc pyxc
