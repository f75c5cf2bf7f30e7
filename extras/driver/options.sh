# shellcheck shell=bash disable=SC2004,SC2034,SC2154 # variables of the driver that reads this file, some by name
# Options: `--name value` for each variable of a block, its kind, and help read from the block.

declare -A sized=() suited=() # what the size of a generator sets, as it is without; and what words_of heeds instead

# Set REPLY to a text without what a terminal would obey (synthio/cli.py says which characters and why): each such
# character is a question mark. It counts bytes, so that it is the same in every locale.
printable() { # TEXT
    local LC_ALL=C
    REPLY=${1//[$'\x01'-$'\x08\n'-$'\x1f\x7f']/?}
    REPLY=${REPLY//$'\xc2'[$'\x80'-$'\x9f\xad']/?}
    REPLY=${REPLY//$'\xd8\x9c'/?}
    REPLY=${REPLY//$'\xe2\x80'[$'\x8b\x8e\x8f\xa8'-$'\xae']/?}
    REPLY=${REPLY//$'\xe2\x81'[$'\xa0'-$'\xaf']/?}
    REPLY=${REPLY//$'\xef\xbb\xbf'/?}
}

# Print the last lines of a log, indented.
print_end() { # LOG LINES
    local line REPLY
    while IFS= read -r line || [[ -n $line ]]; do
        printable "$line"
        printf '    %s\n' "$REPLY"
    done < <(tail -n "$2" "$1")
}

# Print a command as it could be typed.
print_command() { # WORD...
    local line REPLY
    printf -v line '%q ' "$@"
    printable "$line"
    printf '    %s\n' "$REPLY"
}

refuse() { # a mistake of the user's: one line, status 2
    local REPLY
    printable "$*"
    printf '%s: %s\n' "${0##*/}" "$REPLY" >&2
    exit 2
}

# A mistake in one variable: it is told together with those in others.
fault() {
    faults+=("$*")
}

# End where there are faults: one on the same line, several below each other.
refuse_faults() {
    local text REPLY
    ((${#faults[@]})) || return 0
    ((${#faults[@]} > 1)) || refuse "${faults[0]}"
    printf '%s: %d mistakes:\n' "${0##*/}" "${#faults[@]}" >&2
    for text in "${faults[@]}"; do
        printable "$text"
        printf '  %s\n' "$REPLY" >&2
    done
    exit 2
}

# Something that the run needs is not there: a mistake, but one finding among others for --check.
lack() {
    $check || refuse "$@"
    lacks+=("--lack=$*")
}

# Read the block of variables of a file: adds to the arrays `names` and `kinds` (by name).
read_block() { # FILE
    local line in_block=false value='("[^"]*"|[^ ]*)'
    local pattern="^([a-z_]+)=$value +# ([^:]+): "
    while IFS= read -r line; do
        case $line in
            '# ==== variables'*) in_block=true ;;
            '# ==== end'*) break ;;
        esac
        if $in_block && [[ $line =~ $pattern ]]; then
            names+=("${BASH_REMATCH[1]}")
            kinds[${BASH_REMATCH[1]}]=${BASH_REMATCH[3]}
        fi
    done <"$1"
}

# Begin with the variables of a file's block: fills `names` and `kinds`, and empties `given` and `lacks`.
read_variables() { # FILE
    ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 404)) || refuse "bash 4.4 or newer is needed, this is $BASH_VERSION"
    declare -gA kinds=() given=()
    names=() lacks=() faults=()
    # A locale that this machine does not have, as ssh brings it: bash would say so again and again.
    # shellcheck disable=SC2269 # the assignment is what bash warns of
    [[ -z ${LC_ALL:-} || -z $( (LC_ALL=$LC_ALL) 2>&1) ]] || unset LC_ALL
    read_block "$1"
    read_written
}

# Read what the package knows as well, and wrote down for the driver (synthio/pipeline/variables.py): `word_rows` for
# words_of, `need_rows` for check_needs, and `own_models`, by variable, for model_path. At the start and not where it is
# used: an update of the checkout may change these files while a run is under way.
read_written() {
    local name value
    declare -gA own_models=()
    mapfile -t word_rows <"$root/extras/driver/words.txt"
    mapfile -t need_rows <"$root/extras/driver/needs.txt"
    while read -r name value; do own_models[$name]=$value; done <"$root/extras/driver/embedded.txt"
}

# Set what the profile and the models' sizes set, and check each variable by itself.
check_variables() {
    local name value
    local -A defaults=()
    taken=()
    check_kind profile "${kinds[profile]}"
    refuse_faults # nothing can be set by a profile that is not there
    while read -r name value; do defaults[$name]=$value; done <"$root/extras/driver/defaults.txt"
    [[ $profile == embedded ]] || take profiles.txt "$profile" "profile $profile sets"
    split_generators "$text_to_audio_model"
    for name in "${generators[@]}"; do
        if is_full_size "$name"; then
            take sizes.txt text_to_audio_model "text_to_audio_model of full size sets"
            break
        fi
    done
    if is_full_size "$ast_model"; then take sizes.txt ast_model "ast_model of full size sets"; fi
    for name in "${names[@]}"; do check_kind "$name" "${kinds[$name]}"; done
    refuse_faults
}

print_variables() { # FILE
    awk '
        /^# ==== variables/ { inside = 1; next }
        /^# ==== end/ { exit }
        !inside { next }
        /^# -- / { printf "\n%s\n", substr($0, 6); next }
        /^#/ { printf "%s%s\n", first++ ? "" : "\n", substr($0, 3); next }
        match($0, /^[a-z_]+=/) {
            name = substr($0, 1, RLENGTH - 1); rest = substr($0, RLENGTH + 1)
            at = index(rest, " # "); value = substr(rest, 1, at); text = substr(rest, at + 3)
            gsub(/^"|"? *$/, "", value)
            at = index(text, ": ")
            printf "  --%-21s %s [%s; default: %s]\n", name, substr(text, at + 2), substr(text, 1, at - 1), value == "" ? "empty" : value
        }' "$1"
}

# Print the known names that hold the given one, if they are few, else that with the fewest edits to it: at most a third
# of its letters, for what is further off is another name.
nearest() {
    if [[ $1 == train_csv ]]; then set -- input_train_file; fi # which valid_csv and test_csv let one expect
    printf '%s\n' "${names[@]}" help version | awk -v word="$1" '
        function least(a, b, c) { return a < b ? (a < c ? a : c) : (b < c ? b : c) }
        index($0, word) && length(word) > 2 { held = held (count++ ? " or --" : "") $0 }
        {
            for (j = 0; j <= length($0); j++) old[j] = j
            for (i = 1; i <= length(word); i++) {
                new[0] = i
                for (j = 1; j <= length($0); j++)
                    new[j] = least(old[j] + 1, new[j - 1] + 1, old[j - 1] + (substr(word, i, 1) != substr($0, j, 1)))
                for (j = 0; j <= length($0); j++) old[j] = new[j]
            }
            if (NR == 1 || old[length($0)] < best) { best = old[length($0)]; name = $0 }
        }
        END { if (count && count < 5) print held; else if (best <= length(word) / 3) print name }'
}

# Print what a word that is no option may have been meant for: texts and chats make other dashes of `--`.
meant() { # WORD
    local word=$1 dash
    for dash in — – − - -; do word=${word#"$dash"}; done
    if [[ $word && -n ${kinds[${word%%=*}]:-} ]]; then
        printf 'did you mean --%s?' "$word"
    else
        printf 'options are --name value'
    fi
}

refuse_unknown() { # NAME
    local name
    name=$(nearest "$1")
    refuse "unknown option --$1${name:+; did you mean --$name?} (see sh ${0##*/} --help)"
}

is_bool() { # VALUE
    [[ ${1,,} == @(true|yes|on|1|false|no|off|0) ]]
}

parse_options() {
    local name value
    while (($#)); do
        case $1 in
            --help | -h)
                print_help
                exit 0
                ;;
            --version)
                sed -n 's/^__version__ = "\(.*\)"$/synthio \1/p' "$root/synthio/__init__.py"
                exit 0
                ;;
            --?*) name=${1#--} ;;
            *) refuse "'$1' is no option; $(meant "$1") (see sh ${0##*/} --help)" ;;
        esac
        value=""
        if [[ $name == ?*=* ]]; then
            value=${name#*=}
            name=${name%%=*}
            shift
            [[ -n ${kinds[$name]:-} ]] || refuse_unknown "$name"
        else
            [[ -n ${kinds[$name]:-} ]] || refuse_unknown "$name"
            if [[ $name == dry_run || $name == check || $name == advise ]] && ! is_bool "${2:-}"; then
                value=true
                shift
            else
                [[ $# -ge 2 && $2 != --* ]] || refuse "--$name needs a value (${kinds[$name]})"
                value=$2
                shift 2
            fi
        fi
        printf -v "$name" %s "$value"
        given[$name]=true
    done
}

# Set the variables that a column of a table names, but for those that were given, edited or set before. Adds a line to
# `taken`, to be shown.
take() { # TABLE COLUMN WHAT-SETS
    local row column=0 i name value sets=()
    while read -r -a row; do
        name=${row[0]:-#}
        [[ $name != '#'* ]] || continue
        if [[ $name == variable ]]; then
            for i in "${!row[@]}"; do if [[ ${row[i]} == "$2" ]]; then column=$i; fi; done
            continue
        fi
        value=${row[column]}
        [[ $value != - && -z ${given[$name]:-} && ${!name} == "${defaults[$name]}" ]] || continue
        [[ $name != llm_model || $caption_writer == openai ]] || continue # it goes with a server alone
        if [[ $2 == text_to_audio_model ]]; then sized[$name]=${!name}; fi
        printf -v "$name" %s "$value"
        sets+=("$name=$value")
    done <"$root/extras/$1"
    if ((${#sets[@]})); then taken+=("$3 ${sets[*]}"); fi
}

# Set the array `generators` to the models that text_to_audio_model names, parted by commas; a path may hold some.
split_generators() { # VALUE
    generators=("$1")
    local model
    if [[ ! -e $1 && $1 == *,* ]]; then IFS=, read -ra generators <<<"$1,"; fi
    for model in "${generators[@]}"; do
        [[ -n $model ]] || refuse "--text_to_audio_model: '$1' has no model before or after a comma"
    done
}

# Whether a model has more than some 20 million parameters, 80 MB of weights. One that is not on this disk has.
is_full_size() { # VALUE OF A MODEL'S VARIABLE
    [[ $1 != embedded ]] || return 1
    [[ -e $1 ]] || return 0
    (($(du -skL "$1" | cut -f1) > 80 * 1024))
}

is_zero() { # a number that check_kind let pass
    [[ ${1%%[eE]*} != *[1-9]* ]]
}

# Check one variable against its kind; booleans become true or false. What is wrong goes to `faults`.
check_kind() {
    local name=$1 kind=$2 value=${!1} low high words
    case $kind in
        text)
            [[ $value != *$'\n'* ]] || fault "--$name: a value of several lines is not allowed"
            [[ $value != *$'\r'* ]] ||
                fault "--$name: a carriage return is not allowed; save the file that it is from with line ends of Unix"
            ;;
        bool*)
            [[ $kind != *" or $value" ]] || return 0
            words="true or false"
            if [[ $kind != bool ]]; then words="true, false${kind#bool}"; fi
            case ${value,,} in
                true | yes | on | 1) printf -v "$name" true ;;
                false | no | off | 0) printf -v "$name" false ;;
                *) fault "--$name: '$value' is not a boolean; use $words" ;;
            esac
            ;;
        whole* | number*)
            [[ -n $value || $name != num_samples ]] || return 0
            if [[ $kind == *' or '* ]]; then
                words=" ${kind#* or } "
                [[ $value == *' '* || ${words// or / } != *" $value "* ]] || return 0
                kind=${kind%% or *}
            fi
            if [[ $kind == whole* ]]; then
                [[ $value =~ ^-?[0-9]{1,15}$ ]] || { fault "--$name: '$value' is not a whole number" && return; }
            else
                [[ $value =~ ^-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$ ]] ||
                    { fault "--$name: '$value' is not a number" && return; }
            fi
            kind=${kind#* } low=${kind%%..*} high=${kind##*..}
            LC_ALL=C awk -v x="$value" -v low="$low" -v high="$high" \
                'BEGIN { exit !(x + 0 >= low + 0 && (high == "" || x + 0 <= high + 0)) }' ||
                fault "--$name: $value is outside [$low, ${high:-infinity}]"
            if [[ $value =~ ^[0-9]+$ ]]; then printf -v "$name" %d "$((10#$value))"; fi
            ;;
        *)
            [[ $value && "|$kind|" == *"|$value|"* ]] || fault "--$name: '$value' is none of ${kind//|/, }"
            ;;
    esac
}

# Set `words`, what a script is told of the variables that a class of options declares.
words_of() { # CLASS [VARIABLES TO LEAVE OUT...]
    local row kind option name left_out=" ${*:2} "
    words=()
    for row in "${word_rows[@]}"; do
        read -r kind option name <<<"$row"
        if [[ $kind == "$1" && $left_out != *" $name "* ]]; then words+=("$option" "${suited[$name]-${!name}}"); fi
    done
}
