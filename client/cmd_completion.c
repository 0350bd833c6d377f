/* bnctl completion: the scripts of the shells. They know nothing but how to ask bnctl itself, so
 * that they are right for whatever it can do. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/commands.h"
#include "client/complete.h"
#include "client/term.h"
#include "engine/base/macro.h"

enum { EXIT_USAGE = 2, SECONDS = 3 };

static const char bash_script[] =
        "# Completion of bnctl for bash.\n"
        "_bnctl() {\n"
        "        local line cur=${COMP_WORDS[COMP_CWORD]}\n"
        "        [[ $cur == \"=\" ]] && cur=\n"
        "        COMPREPLY=()\n"
        "        while IFS= read -r line; do\n"
        "                if [[ $line == :files ]]; then\n"
        "                        compopt -o filenames 2>/dev/null\n"
        "                        while IFS= read -r line; do COMPREPLY+=(\"$line\"); done \\\n"
        "                                < <(compgen -f -- \"${cur#--*=}\")\n"
        "                else\n"
        "                        COMPREPLY+=(\"${line%%$'\\t'*}\")\n"
        "                fi\n"
        "        done < <(\"${COMP_WORDS[0]}\" completion bash -- \\\n"
        "                         \"${COMP_WORDS[@]:1:COMP_CWORD}\" 2>/dev/null)\n"
        "        if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]]; then\n"
        "                compopt -o nospace 2>/dev/null\n"
        "        fi\n"
        "}\n"
        "complete -F _bnctl bnctl\n";

static const char zsh_script[] =
        "#compdef bnctl\n"
        "# Completion of bnctl for zsh.\n"
        "_bnctl() {\n"
        "        local line text ret=1\n"
        "        local -a options others\n"
        "        for line in \"${(@f)$(\"${words[1]}\" completion zsh -- \\\n"
        "                              \"${(@)words[2,CURRENT]}\" 2>/dev/null)}\"; do\n"
        "                if [[ $line == :files ]]; then\n"
        "                        compset -P '--*='\n"
        "                        _files && ret=0\n"
        "                        continue\n"
        "                fi\n"
        "                text=${line%%$'\\t'*}\n"
        "                line=${text//:/\\\\:}${${line#$text}/$'\\t'/:}\n"
        "                if [[ $text == *= ]]; then options+=(\"$line\")\n"
        "                elif [[ -n $text ]]; then others+=(\"$line\"); fi\n"
        "        done\n"
        "        (( $#options )) && _describe -t options option options -S '' && ret=0\n"
        "        (( $#others )) && _describe -t values value others && ret=0\n"
        "        return ret\n"
        "}\n"
        "if [[ $funcstack[1] == _bnctl ]]; then\n"
        "        _bnctl \"$@\"\n"
        "else\n"
        "        compdef _bnctl bnctl\n"
        "fi\n";

static const char fish_script[] =
        "# Completion of bnctl for fish.\n"
        "function __bnctl_complete\n"
        "        set -l typed (commandline -opc)\n"
        "        set -l current \"$(commandline -ct)\"\n"
        "        set -l prefix (string match -r -- '^--[a-z0-9-]+=' $current)\n"
        "        for line in ($typed[1] completion fish -- $typed[2..] $current 2>/dev/null)\n"
        "                if test \"$line\" = :files\n"
        "                        for path in (__fish_complete_path \\\n"
        "                                         (string replace -- \"$prefix\" '' $current))\n"
        "                                echo \"$prefix$path\"\n"
        "                        end\n"
        "                else\n"
        "                        echo $line\n"
        "                end\n"
        "        end\n"
        "end\n"
        "complete -c bnctl -f -a '(__bnctl_complete)'\n";

/* The script for a shell, or NULL: there is none. */
static const char *script_of(const char *shell) {
        static const struct {
                const char *name, *script;
        } shells[] = {{"bash", bash_script}, {"zsh", zsh_script}, {"fish", fish_script}};

        for (size_t i = 0; i < ARRAY_SIZE(shells); i++)
                if (strcmp(shells[i].name, shell) == 0)
                        return shells[i].script;
        return NULL;
}

int cmd_completion(struct options *o) {
        const char *shell = o->n_args > 0 ? o->args[0] : "";
        const char *script = script_of(shell);

        if (!script) {
                term_error("completion is for bash, zsh or fish");
                return EXIT_USAGE;
        }
        if (o->n_args == 1) {
                fputs(script, stdout);
                return 0;
        }
        if (!freopen("/dev/null", "w", stderr)) /* who presses a key wants no message */
                return 1;
        alarm(SECONDS);
        complete(stdout, o, o->args + 1, o->n_args - 1, strcmp(shell, "bash") == 0);
        return 0;
}
