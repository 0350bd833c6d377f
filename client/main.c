/* bnctl: the table of verbs. Text goes over the daemon's socket, administration over D-Bus. */

#include <curl/curl.h>
#include <locale.h>

#include "client/commands.h"
#include "client/interrupt.h"
#include "engine/base/macro.h"

#define GENERATION_OPTIONS                                                                         \
        "model system max-tokens temperature top-k top-p min-p repeat-penalty seed stop raw"
#define GENERATION_HELP                                                                            \
        "  -m, --model=NAME        model (bnctl models lists them; default: the daemon's)\n"       \
        "  -s, --system=TEXT       system prompt\n"                                                \
        "  -n, --max-tokens=N      longest answer, in tokens\n"                                    \
        "      --temperature=T     0 (always the likeliest word) to 2\n"                           \
        "      --top-k=N --top-p=P --min-p=P --repeat-penalty=R --seed=N\n"                        \
        "      --stop=TEXT         end before this text (up to 4 times)\n"                         \
        "      --raw               do not escape control characters on a terminal\n"
#define DETACH_OPTIONS " detach keep background deadline"
#define DETACH_HELP                                                                                \
        "      --detach            print the id of the job and leave; it goes on alone, and\n"     \
        "                          bnctl output JOB prints its answer, also again and again\n"     \
        "      --keep=SECONDS      how long after its end (1 to 3600; default 600)\n"              \
        "      --background        let interactive work go first\n"                               \
        "      --deadline=SECONDS  give up after that long, also while it waits (status 124)\n"
#define TASK_OPTIONS " instructions file model verbose json"
#define TASK_HELP                                                                                  \
        "      --instructions=TEXT what else is wanted\n"                                          \
        "  -f, --file=FILE         the same as FILE\n"                                             \
        "  -m, --model=NAME        model\n"                                                        \
        "  -v, --verbose           say what was read\n"
#define SAMPLING_OPTIONS " temperature top-k top-p min-p repeat-penalty seed"
#define SAMPLING_HELP                                                                              \
        "      --temperature=T --top-k=N --top-p=P --min-p=P --repeat-penalty=R --seed=N\n"        \
        "                          as in ask\n"
#define RECEIPT_HELP                                                                               \
        "      --receipt=FILE      write down what the answer was made of: digests and numbers,\n" \
        "                          no text; bnctl replay compares\n"
#define JSON_HELP "  -j, --json              print JSON\n"

static const struct verb verbs[] = {
        {"ask", "ask [PROMPT...]", "Ask the model",
         "The prompt is the arguments. Standard input or --file is the material the prompt is\n"
         "about; without arguments it is the prompt itself. Other users of this machine can see\n"
         "arguments in the list of processes; they cannot see standard input or the file.\n\n"
         "  bnctl ask \"Name three rivers in Europe\"\n"
         "  bnctl ask \"Explain this error\" < build.log\n\n"
         "  -f, --file=FILE         material from a file instead of standard input\n"
         GENERATION_HELP
         "      --no-stream         print the answer when it is complete\n"
         "  -v, --verbose           say which model answered and how many tokens it took\n"
         RECEIPT_HELP DETACH_HELP JSON_HELP,
         GENERATION_OPTIONS " file no-stream verbose json receipt" DETACH_OPTIONS, -1, cmd_ask},
        {"summarize", "summarize [FILE|-]", "Summarise text of any length",
         "Text longer than the model's context is read in pieces that cover all of it; nothing is\n"
         "dropped silently, and the report on standard error (-v) says what was read.\n\n"
         "      --type=TYPE         tldr (default), teaser, key-points, headline\n"
         "      --length=LENGTH     short (default), medium, long\n"
         "      --format=FORMAT     plain-text (default), markdown\n"
         "      --context=TEXT      what you want to know about the text\n"
         "  -f, --file=FILE         the same as FILE\n"
         "  -m, --model=NAME        model\n"
         "  -n, --max-tokens=N      longest summary, in tokens\n"
         "      --raw --no-stream   as in ask\n"
         "  -v, --verbose           print the coverage report\n"
         RECEIPT_HELP DETACH_HELP JSON_HELP,
         "type length format context file model max-tokens raw no-stream verbose json receipt"
         DETACH_OPTIONS, 1, cmd_summarize},
        {"rewrite", "rewrite [FILE|-]", "Rewrite a text in another tone or length",
         "A text of any length; what is longer than some paragraphs is rewritten in pieces, and\n"
         "nothing is left out.\n\n"
         "  bnctl rewrite --tone=more-formal < letter.txt\n\n"
         "      --tone=TONE         as-is (default), more-formal, more-casual\n"
         "      --length=LENGTH     as-is (default), shorter, longer\n"
         "      --format=FORMAT     as-is (default), markdown, plain-text\n"
         TASK_HELP SAMPLING_HELP DETACH_HELP JSON_HELP,
         "tone length format no-stream raw" TASK_OPTIONS SAMPLING_OPTIONS DETACH_OPTIONS, 1,
         cmd_rewrite},
        {"proofread", "proofread [FILE|-]", "Correct the mistakes in a text",
         "Prints the corrected text; a part the model has no correction of is left as it is, and\n"
         "the report says so. With --json also where what was replaced, in bytes of the input.\n\n"
         "  bnctl proofread --diff < letter.txt\n\n"
         "      --diff              mark what was changed: [-old-]{+new+}\n"
         TASK_HELP SAMPLING_HELP DETACH_HELP JSON_HELP,
         "diff no-stream raw" TASK_OPTIONS SAMPLING_OPTIONS DETACH_OPTIONS, 1, cmd_proofread},
        {"extract", "extract --schema=FILE [FILE|-]", "Pull fields out of a text as JSON",
         "Prints JSON that is valid for the JSON Schema. The text must fit into the context.\n\n"
         "  bnctl extract --schema=invoice.json < mail.txt | jq .amount\n\n"
         "      --schema=FILE       a JSON Schema\n"
         "  -n, --max-tokens=N      longest answer, in tokens\n"
         TASK_HELP SAMPLING_HELP DETACH_HELP JSON_HELP,
         "schema max-tokens" TASK_OPTIONS SAMPLING_OPTIONS DETACH_OPTIONS, 1, cmd_extract},
        {"classify", "classify --labels=A,B,... [FILE|-]", "Choose among labels, with scores",
         "Prints each label after its score, best first; the scores sum to 1. They say how likely\n"
         "the model finds each label as its answer.\n\n"
         "  bnctl classify --labels=spam,work,private < mail.txt | head -1\n\n"
         "      --labels=A,B,...    2 to 64 labels, commas between\n"
         TASK_HELP DETACH_HELP JSON_HELP,
         "labels" TASK_OPTIONS DETACH_OPTIONS, 1, cmd_classify},
        {"embed", "embed [FILE|-]", "Turn texts into vectors",
         "Prints a line of JSON for each text, a vector of length 1. Needs a model that pools;\n"
         "the embedded one does not.\n\n"
         "      --lines             each line that is not empty is a text\n"
         "  -f, --file=FILE         the same as FILE\n"
         "  -m, --model=NAME        model\n"
         "      --background        let interactive work go first\n"
         "      --deadline=SECONDS  give up after that long (status 124)\n"
         "  -j, --json              the answer of /v1/embeddings instead\n",
         "lines file model background deadline json", 1, cmd_embed},
        {"replay", "replay RECEIPT [PROMPT...|FILE]", "Make an answer again and compare it",
         "RECEIPT is a file that ask or summarize --receipt wrote. The input has to be given\n"
         "again, as it was: a receipt has none of it. Model, seed and all numbers are the\n"
         "receipt's. The answer is not printed, but whether it is equal to the byte (status 0) or\n"
         "not (1), and what differs. Load, threads and instruction set do not matter; comparing\n"
         "needs the same user on the same installation, where the digests have their key.\n\n"
         "  bnctl summarize --receipt=r.json report.txt && bnctl replay r.json report.txt\n\n"
         "  -f, --file=FILE         as in ask or summarize, and so are these:\n"
         "  -s, --system=TEXT --stop=TEXT --context=TEXT\n" JSON_HELP,
         "file system stop context json", -1, cmd_replay},
        {"chat", "chat", "Talk with the model; forgets everything at the end",
         "One line is one message. Ctrl-C stops an answer; at the prompt it ends, like Ctrl-D.\n\n"
         GENERATION_HELP, GENERATION_OPTIONS, 0, cmd_chat},
        {"count", "count [FILE...]", "Count tokens and say whether the text fits",
         "What bnctl ask would read of each file, or of standard input: its tokens, and those\n"
         "that the model can hold, question and answer together. The exit status is 65 when a\n"
         "file does not fit. Costs a request each and no tokens.\n\n"
         "  -m, --model=NAME        model\n"
         "  -s, --system=TEXT       system prompt, which counts, too\n" JSON_HELP,
         "model system json", -1, cmd_count},
        {"models", "models", "List the installed models", JSON_HELP, "json", 0, cmd_models},
        {"ps", "ps [--all]", "List your jobs, sessions and workers",
         "PROGRESS is the place of a job that waits and the seconds until it starts, as far as\n"
         "that is known, or the part of the work that is done.\n\n"
         "A worker is the process that serves a user. PRIVATE is what it alone takes, of that KV\n"
         "for keys and values; SHARED are the weights it has mapped, which are in memory once for\n"
         "everybody. Bytes are as the worker counts them.\n\n"
         "      --workers           only the workers (with --json: they instead of the jobs)\n"
         "      --all               everybody's (administrators)\n" JSON_HELP,
         "all workers json", 0, cmd_ps},
        {"top", "top [--all]", "Watch what is computed now",
         "A page a second: tokens per second, CPUs in use, workers and jobs. Ctrl-C ends it. When\n"
         "standard output is no terminal, one picture after the other.\n\n"
         "      --once              one picture, after a second of measuring\n"
         "      --all               everybody's (administrators)\n"
         "  -j, --json              a line of JSON for each picture\n",
         "all once json", 0, cmd_top},
        {"monitor", "monitor [--all]", "Print jobs as they come, start and end",
         "One line for each event, until Ctrl-C; names and numbers, never a word of what was\n"
         "asked or answered.\n\n"
         "  bnctl monitor --json | jq 'select(.event == \"ended\")'\n\n"
         "      --all               everybody's (administrators)\n"
         "  -j, --json              a line of JSON for each event\n",
         "all json", 0, cmd_monitor},
        {"cancel", "cancel JOB...|--all", "Stop jobs of yours",
         "JOB is an id from bnctl ps. --all stops every job of yours. What is kept of a detached\n"
         "job that has ended is wiped.\n", "all", -1, cmd_cancel},
        {"wait", "wait JOB", "Wait for the end of a job",
         "JOB is an id from bnctl ps or of a job that was detached. The exit status is that of\n"
         "the job, as if bnctl had done it itself. Ctrl-C ends the waiting, not the job.\n\n"
         "  job=$(bnctl summarize --detach report.txt) && bnctl wait $job && bnctl output $job\n",
         "", 1, cmd_wait},
        {"output", "output JOB", "Print the answer of a detached job",
         "From its start, while the job runs and until its time is over (--keep), as often as you\n"
         "like; one reader at a time. The exit status is that of the job.\n\n"
         "      --raw               do not escape control characters on a terminal\n",
         "raw", 1, cmd_output},
        {"quota", "quota [show|explain|set KEY=VALUE...]", "Show or change what a user may do",
         "show is the default. explain names the file and line that decided each limit, and the\n"
         "section: a user's counts before a group's, a group's before a slice's, an inner\n"
         "slice's before an outer one's, a slice's before [Default]. set is for administrators;\n"
         "keys and values are those of bitnetd.conf, KEY= takes back what was set.\n\n"
         "Where bitnetd.conf has sections for slices of systemd, a user has a quota and budgets\n"
         "of his own in each of them. What is shown is that of the slice in which bnctl runs; for\n"
         "another user (--uid), without --slice, that outside of all such slices.\n\n"
         "  bnctl quota set --uid 1000 TokensPerDay=100K AllowPriority=background\n\n"
         "      --uid=N             another user (administrators only)\n"
         "      --slice=NAME        show, explain: in this slice, such as user.slice\n"
         "      --persistent        set: in a file; without it until the daemon ends\n" JSON_HELP,
         "uid slice persistent json", -1, cmd_quota},
        {"install", "install FILE", "Install a model for all users (administrators)",
         "FILE is a GGUF file. It is copied, packed and kept until bnctl remove; --name is how\n"
         "requests name it (default: the name of the file, without .gguf). Ctrl-C takes it back.\n"
         "The copy stays beside the packed form, which is made from it anew when a later version\n"
         "of the daemon packs otherwise.\n\n"
         "      --name=NAME         a-z, 0-9, dot, underscore and hyphen\n", "name", 1,
         cmd_install},
        {"remove", "remove MODEL", "Take away an installed model (administrators)",
         "Only what bnctl install has brought.\n", "", 1, cmd_remove},
        {"verify", "verify MODEL", "Check a model's file against its hash (administrators)",
         "A model that was refused is tried anew.\n", "", 1, cmd_verify},
        {"reload", "reload", "Read the configuration anew (administrators)",
         "A file with a mistake changes nothing, and the message names its line.\n", "", 0,
         cmd_reload},
        {"status", "status", "Show the daemon's state", JSON_HELP, "json", 0, cmd_status},
        {"completion", "completion SHELL [-- WORD...]", "Complete command lines in a shell",
         "SHELL is bash, zsh or fish; prints what it has to read. An installed bnctl has brought\n"
         "its files. With words, those after bnctl, prints what the last of them could become.\n\n"
         "  . <(bnctl completion bash)\n", "", -1, cmd_completion},
};

int main(int argc, char **argv) {
        struct options options = {0};
        const struct verb *verb;
        int status;

        setlocale(LC_CTYPE, "");
        verb = options_parse(&options, verbs, ARRAY_SIZE(verbs), argc, argv, &status);
        if (!verb)
                return status;
        interrupt_install();
        if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
                return 1;
        status = verb->run(&options);
        curl_global_cleanup();
        return status;
}
