# shellcheck shell=bash
# Complete the options of run.sh and experiment.sh, and the values that they allow, in bash. In ~/.bashrc, say:
#   source /path/to/synthio/extras/completion.sh
# It reads the block of variables of the script that is called. `sh run.sh --dpo_<TAB>` works, and so does `./run.sh`.

_synthio() {
    local word=$2 before=$3 script="" names=() i
    local -A kinds=()
    for ((i = 0; i < COMP_CWORD; i++)); do
        if [[ ${COMP_WORDS[i]##*/} == @(run|experiment).sh ]]; then script=${COMP_WORDS[i]}; fi
    done
    if [[ ! -f $script ]]; then # another script of sh's
        mapfile -t COMPREPLY < <(compgen -o default -- "$word")
        return
    fi
    _synthio_read "$script"
    [[ ${script##*/} != experiment.sh ]] || _synthio_read "$(dirname "$script")/run.sh" # takes the other's variables, too
    if [[ $before == --* && -n ${kinds[${before#--}]:-} && $word != --* ]]; then
        _synthio_values "${kinds[${before#--}]}" "$word"
    else
        mapfile -t COMPREPLY < <(compgen -W "${names[*]/#/--} --help --version" -- "$word")
    fi
}

# Fill `names` and `kinds` of the caller from the block of a script.
_synthio_read() { # SCRIPT
    # shellcheck source=/dev/null # extras/driver/options.sh is checked by itself
    source <(sed -n '/^read_block() {/,/^}/p' "$(dirname "${BASH_SOURCE[0]}")/driver/options.sh")
    read_block "$1"
}

# The words that a kind of variable allows; of a text, files.
_synthio_values() { # KIND WORD
    case $1 in
        text) mapfile -t COMPREPLY < <(compgen -f -- "$2") ;;
        bool*) mapfile -t COMPREPLY < <(compgen -W "true false" -- "$2") ;;
        whole* | number*) if [[ $1 == *' or '* ]]; then mapfile -t COMPREPLY < <(compgen -W "${1##* or }" -- "$2"); fi ;;
        *) mapfile -t COMPREPLY < <(compgen -W "${1//|/ }" -- "$2") ;;
    esac
}

complete -o filenames -F _synthio run.sh experiment.sh sh bash
