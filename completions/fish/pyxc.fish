# SPDX-License-Identifier: MIT
# fish completion for pyxc: the command itself knows what may come next.

function __pyxc_complete
    set -l typed (commandline -opc)
    set -l current (commandline -ct)
    set -l found (pyxc __complete $typed[2..-1] "$current" 2>/dev/null)
    if test "$found" = __files__
        __fish_complete_path "$current"
    else
        printf '%s\n' $found
    end
end

complete -c pyxc -f -a '(__pyxc_complete)'
