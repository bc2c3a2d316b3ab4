package main

// completionScripts are by shell. Each hands the words to `director __complete` and shows what that prints.
func completionScripts() map[string]string {
	return map[string]string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}
}

const bashCompletion = `# bash completion of director
_director() {
    local cur words cword
    if declare -F _get_comp_words_by_ref >/dev/null; then
        _get_comp_words_by_ref -n =: cur words cword
    else
        cur=${COMP_WORDS[COMP_CWORD]} words=("${COMP_WORDS[@]}") cword=$COMP_CWORD
    fi
    local IFS=$'\n'
    COMPREPLY=($("${words[0]}" __complete -- "${words[@]:1:cword}" 2>/dev/null | cut -f1))
    if declare -F __ltrim_colon_completions >/dev/null; then
        __ltrim_colon_completions "$cur"
    fi
}
complete -o default -F _director director
`

const zshCompletion = `#compdef director
# zsh completion of director
_director() {
    local -a choices
    local line
    for line in "${(@f)$(${words[1]} __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        [[ -n $line ]] && choices+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
    done
    if (( ${#choices} )); then
        _describe 'director' choices
    else
        _files
    fi
}
if [[ $funcstack[1] == _director ]]; then
    _director "$@"
else
    compdef _director director
fi
`

const fishCompletion = `# fish completion of director
function __director_complete
    set -l words (commandline -opc) (commandline -ct)
    director __complete -- $words[2..-1] 2>/dev/null
end
complete -c director -a '(__director_complete)'
`
