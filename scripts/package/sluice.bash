# SPDX-License-Identifier: Apache-2.0
# Copyright The Sluice authors
#
# bash completion for sluice: commands and flags as its own help has them, ids and ports as the daemon has.

_sluice_column() { # N COMMAND...: the N-th column of what sluice prints, without its head line
	local n=$1
	shift
	timeout 2 "$@" 2>/dev/null | awk -v n="$n" 'NR > 1 { print $n }'
}

_sluice() {
	local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
	local program=${COMP_WORDS[0]} command='' word words=''

	for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
		[[ $word == -* ]] || { command=$word && break; }
	done
	case $before in
	-w | --write | --token-file | --ca-file | --cert)
		mapfile -t COMPREPLY < <(compgen -f -- "$current")
		return
		;;
	-i | --port) words=$(_sluice_column 1 "$program" ports) ;;
	-Q | --direction) words='in out inout' ;;
	*)
		if [[ $current == -* ]]; then
			words=$("$program" ${command:+"$command"} --help 2>/dev/null | grep -oE '(^|[ ,])--?[a-zA-Z][a-z-]*')
		elif [[ -z $command ]]; then
			words=$("$program" --help 2>/dev/null | awk '/^  [a-z]/ { print $1 }')
		else
			case $command in
			show | stop | watch | download | packets | delete | balance)
				words=$(_sluice_column 1 "$program" list)
				;;
			esac
		fi
		;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}

complete -F _sluice sluice
