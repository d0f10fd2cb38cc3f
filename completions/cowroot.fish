# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_cowroot_global_optspecs
    string join \n v/verbose h/help V/version
end

function __fish_cowroot_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_cowroot_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_cowroot_using_subcommand
    set -l cmd (__fish_cowroot_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c cowroot -n "__fish_cowroot_needs_command" -s v -l verbose -d 'Say more: each step, not just each change of state'
complete -c cowroot -n "__fish_cowroot_needs_command" -s h -l help -d 'Print help'
complete -c cowroot -n "__fish_cowroot_needs_command" -s V -l version -d 'Print version'
complete -c cowroot -n "__fish_cowroot_needs_command" -f -a "attach" -d 'Stack a cowfile on a base and serve both as one writable block device'
complete -c cowroot -n "__fish_cowroot_needs_command" -f -a "detach" -d 'Stop serving a device; what a tmpfs cowfile holds is gone then'
complete -c cowroot -n "__fish_cowroot_needs_command" -f -a "create" -d 'Make an empty cowfile for a base, to keep what is written'
complete -c cowroot -n "__fish_cowroot_needs_command" -f -a "status" -d 'Show the devices this machine serves: space, base, health'
complete -c cowroot -n "__fish_cowroot_needs_command" -f -a "info" -d 'Show what a cowfile holds, and which base it wants'
complete -c cowroot -n "__fish_cowroot_needs_command" -f -a "check" -d 'Read all of a cowfile and say what is damaged; exit code 3 if anything is'
complete -c cowroot -n "__fish_cowroot_needs_command" -f -a "session" -d 'Keep several sessions in one cowfile: list, begin, seal, rename, roll back, delete'
complete -c cowroot -n "__fish_cowroot_needs_command" -f -a "diff" -d 'List the files that a session has added, changed and deleted in its base\'s; or pack them'
complete -c cowroot -n "__fish_cowroot_needs_command" -f -a "merge" -d 'Write what a session changed to its base, or to a new image; or take that back'
complete -c cowroot -n "__fish_cowroot_needs_command" -f -a "boot" -d 'The initramfs entry point (also when run as /init): find, attach, mount, switch root'
complete -c cowroot -n "__fish_cowroot_needs_command" -f -a "explain" -d 'Say what a kernel command line would do, without doing it'
complete -c cowroot -n "__fish_cowroot_needs_command" -f -a "upgrade" -d 'Hand running devices to this binary: nothing that uses them notices more than a pause'
complete -c cowroot -n "__fish_cowroot_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c cowroot -n "__fish_cowroot_using_subcommand attach" -l base -d 'What is never written: a regular file or a block device' -r -F
complete -c cowroot -n "__fish_cowroot_using_subcommand attach" -l cow -d 'What takes the writes: a cowfile (a file or a block device), where they stay; or tmpfs, tmpfs:SIZE (K, M, G) or tmpfs:PERCENT% of RAM, from where they are gone at detach or power-off' -r
complete -c cowroot -n "__fish_cowroot_using_subcommand attach" -l durability -d 'When a cowfile\'s writes become durable at the latest: flush (with each sync or fsync, as on any disk), interval:SECONDS, or shutdown; a power cut goes back to the last time, whole' -r
complete -c cowroot -n "__fish_cowroot_using_subcommand attach" -l session -d 'Which session of a cowfile: resume (the last one) or resume:NAME, new or new:NAME (an empty one on the last one), or throwaway (in RAM over the last one, which stays as it is)' -r
complete -c cowroot -n "__fish_cowroot_using_subcommand attach" -l id -d 'The device\'s number, the N of /dev/ublkbN; default: the first free one' -r
complete -c cowroot -n "__fish_cowroot_using_subcommand attach" -l size -d 'Make the device larger than its base (bytes, or with K, M, G); the rest reads as zeros' -r
complete -c cowroot -n "__fish_cowroot_using_subcommand attach" -l lost -d 'How long to wait for a medium that was pulled out and may be put back; meanwhile the device waits, then it fails. 0: not at all' -r
complete -c cowroot -n "__fish_cowroot_using_subcommand attach" -l read-only -d 'Refuse every write to the device'
complete -c cowroot -n "__fish_cowroot_using_subcommand attach" -l foreground -d 'Serve in this process until detached, instead of in a daemon'
complete -c cowroot -n "__fish_cowroot_using_subcommand attach" -s v -l verbose -d 'Say more: each step, not just each change of state'
complete -c cowroot -n "__fish_cowroot_using_subcommand attach" -s h -l help -d 'Print help'
complete -c cowroot -n "__fish_cowroot_using_subcommand attach" -s V -l version -d 'Print version'
complete -c cowroot -n "__fish_cowroot_using_subcommand detach" -l all -d 'Every device cowroot serves, and those whose daemon and supervisor were killed'
complete -c cowroot -n "__fish_cowroot_using_subcommand detach" -s v -l verbose -d 'Say more: each step, not just each change of state'
complete -c cowroot -n "__fish_cowroot_using_subcommand detach" -s h -l help -d 'Print help'
complete -c cowroot -n "__fish_cowroot_using_subcommand detach" -s V -l version -d 'Print version'
complete -c cowroot -n "__fish_cowroot_using_subcommand create" -l base -d 'The base it is for: it is known again, and no other is taken for it' -r -F
complete -c cowroot -n "__fish_cowroot_using_subcommand create" -l name -d 'What people call it; default: its file\'s name' -r
complete -c cowroot -n "__fish_cowroot_using_subcommand create" -l max-size -d 'How large it may become (bytes, or with K, M, G); default: enough to write the whole device once; of a block device all of it' -r
complete -c cowroot -n "__fish_cowroot_using_subcommand create" -l preallocate -d 'Take so much of the medium\'s space now, or `all`; else it grows as it is written' -r
complete -c cowroot -n "__fish_cowroot_using_subcommand create" -l size -d 'Make the device larger than its base (bytes, or with K, M, G); the rest reads as zeros' -r
complete -c cowroot -n "__fish_cowroot_using_subcommand create" -l file-size -d 'Continue in COWFILE.1, COWFILE.2, … after so much; default: where the file system wants it' -r
complete -c cowroot -n "__fish_cowroot_using_subcommand create" -s v -l verbose -d 'Say more: each step, not just each change of state'
complete -c cowroot -n "__fish_cowroot_using_subcommand create" -s h -l help -d 'Print help'
complete -c cowroot -n "__fish_cowroot_using_subcommand create" -s V -l version -d 'Print version'
complete -c cowroot -n "__fish_cowroot_using_subcommand status" -l json -d 'One JSON document instead of text'
complete -c cowroot -n "__fish_cowroot_using_subcommand status" -l watch -d 'Go on until ctrl-C, or until no device is left: drawn anew each second on a terminal, else a line for each change; with --json a document each second, a line each'
complete -c cowroot -n "__fish_cowroot_using_subcommand status" -s v -l verbose -d 'Say more: each step, not just each change of state'
complete -c cowroot -n "__fish_cowroot_using_subcommand status" -s h -l help -d 'Print help'
complete -c cowroot -n "__fish_cowroot_using_subcommand status" -s V -l version -d 'Print version'
complete -c cowroot -n "__fish_cowroot_using_subcommand info" -l json -d 'One JSON document instead of text'
complete -c cowroot -n "__fish_cowroot_using_subcommand info" -s v -l verbose -d 'Say more: each step, not just each change of state'
complete -c cowroot -n "__fish_cowroot_using_subcommand info" -s h -l help -d 'Print help'
complete -c cowroot -n "__fish_cowroot_using_subcommand info" -s V -l version -d 'Print version'
complete -c cowroot -n "__fish_cowroot_using_subcommand check" -l save -d 'With --repair: keep what is replaced here' -r -F
complete -c cowroot -n "__fish_cowroot_using_subcommand check" -l repair -d 'Mend what loses nothing; what is replaced is kept in COWFILE.repair-TIME'
complete -c cowroot -n "__fish_cowroot_using_subcommand check" -l drop-damaged -d 'With --repair: let what is below show where something is lost, instead of errors, and go back behind commits that are damaged'
complete -c cowroot -n "__fish_cowroot_using_subcommand check" -s v -l verbose -d 'Say more: each step, not just each change of state'
complete -c cowroot -n "__fish_cowroot_using_subcommand check" -s h -l help -d 'Print help'
complete -c cowroot -n "__fish_cowroot_using_subcommand check" -s V -l version -d 'Print version'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and not __fish_seen_subcommand_from list new seal rename rollback delete export import help" -s v -l verbose -d 'Say more: each step, not just each change of state'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and not __fish_seen_subcommand_from list new seal rename rollback delete export import help" -s h -l help -d 'Print help'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and not __fish_seen_subcommand_from list new seal rename rollback delete export import help" -s V -l version -d 'Print version'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and not __fish_seen_subcommand_from list new seal rename rollback delete export import help" -f -a "list" -d 'Show the sessions of a cowfile: which stands on which, which takes the writes'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and not __fish_seen_subcommand_from list new seal rename rollback delete export import help" -f -a "new" -d 'Begin an empty session; the one it stands on is sealed, and stays as it is'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and not __fish_seen_subcommand_from list new seal rename rollback delete export import help" -f -a "seal" -d 'Let a session take no writes any more; if it took them, an empty one begins on it'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and not __fish_seen_subcommand_from list new seal rename rollback delete export import help" -f -a "rename" -d 'Give a session another name'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and not __fish_seen_subcommand_from list new seal rename rollback delete export import help" -f -a "rollback" -d 'Drop all that was written to the session that takes the writes; the one below takes them again'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and not __fish_seen_subcommand_from list new seal rename rollback delete export import help" -f -a "delete" -d 'Drop a session that no other stands on and that does not take the writes'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and not __fish_seen_subcommand_from list new seal rename rollback delete export import help" -f -a "export" -d 'Write what a session and those below it have over the base to one compressed, checksummed file'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and not __fish_seen_subcommand_from list new seal rename rollback delete export import help" -f -a "import" -d 'Bring an exported session into a cowfile for the same base, as a session on the base'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and not __fish_seen_subcommand_from list new seal rename rollback delete export import help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and __fish_seen_subcommand_from list" -l json -d 'One JSON document instead of text'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and __fish_seen_subcommand_from list" -s v -l verbose -d 'Say more: each step, not just each change of state'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and __fish_seen_subcommand_from list" -s V -l version -d 'Print version'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and __fish_seen_subcommand_from new" -l name -d 'What to call it; default: session-2, session-3, …' -r
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and __fish_seen_subcommand_from new" -l on -d 'The session that it stands on, or `base`; default: the one that takes the writes' -r
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and __fish_seen_subcommand_from new" -s v -l verbose -d 'Say more: each step, not just each change of state'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and __fish_seen_subcommand_from new" -s h -l help -d 'Print help'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and __fish_seen_subcommand_from new" -s V -l version -d 'Print version'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and __fish_seen_subcommand_from seal" -s v -l verbose -d 'Say more: each step, not just each change of state'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and __fish_seen_subcommand_from seal" -s h -l help -d 'Print help'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and __fish_seen_subcommand_from seal" -s V -l version -d 'Print version'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and __fish_seen_subcommand_from rename" -s v -l verbose -d 'Say more: each step, not just each change of state'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and __fish_seen_subcommand_from rename" -s h -l help -d 'Print help'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and __fish_seen_subcommand_from rename" -s V -l version -d 'Print version'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and __fish_seen_subcommand_from rollback" -s v -l verbose -d 'Say more: each step, not just each change of state'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and __fish_seen_subcommand_from rollback" -s h -l help -d 'Print help'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and __fish_seen_subcommand_from rollback" -s V -l version -d 'Print version'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and __fish_seen_subcommand_from delete" -s v -l verbose -d 'Say more: each step, not just each change of state'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and __fish_seen_subcommand_from delete" -s h -l help -d 'Print help'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and __fish_seen_subcommand_from delete" -s V -l version -d 'Print version'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and __fish_seen_subcommand_from export" -s o -l output -d 'Where to; there must be nothing of this name' -r -F
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and __fish_seen_subcommand_from export" -s v -l verbose -d 'Say more: each step, not just each change of state'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and __fish_seen_subcommand_from export" -s h -l help -d 'Print help'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and __fish_seen_subcommand_from export" -s V -l version -d 'Print version'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and __fish_seen_subcommand_from import" -l name -d 'What to call the session; default: as it was called' -r
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and __fish_seen_subcommand_from import" -s v -l verbose -d 'Say more: each step, not just each change of state'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and __fish_seen_subcommand_from import" -s h -l help -d 'Print help'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and __fish_seen_subcommand_from import" -s V -l version -d 'Print version'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and __fish_seen_subcommand_from help" -f -a "list" -d 'Show the sessions of a cowfile: which stands on which, which takes the writes'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and __fish_seen_subcommand_from help" -f -a "new" -d 'Begin an empty session; the one it stands on is sealed, and stays as it is'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and __fish_seen_subcommand_from help" -f -a "seal" -d 'Let a session take no writes any more; if it took them, an empty one begins on it'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and __fish_seen_subcommand_from help" -f -a "rename" -d 'Give a session another name'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and __fish_seen_subcommand_from help" -f -a "rollback" -d 'Drop all that was written to the session that takes the writes; the one below takes them again'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and __fish_seen_subcommand_from help" -f -a "delete" -d 'Drop a session that no other stands on and that does not take the writes'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and __fish_seen_subcommand_from help" -f -a "export" -d 'Write what a session and those below it have over the base to one compressed, checksummed file'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and __fish_seen_subcommand_from help" -f -a "import" -d 'Bring an exported session into a cowfile for the same base, as a session on the base'
complete -c cowroot -n "__fish_cowroot_using_subcommand session; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c cowroot -n "__fish_cowroot_using_subcommand diff" -l base -d 'The base it was made for; another one is refused' -r -F
complete -c cowroot -n "__fish_cowroot_using_subcommand diff" -l session -d 'Which session of the cowfile; default: the one that takes the writes' -r
complete -c cowroot -n "__fish_cowroot_using_subcommand diff" -l partition -d 'Of a base that is a whole partitioned disk: the partition whose files are compared' -r
complete -c cowroot -n "__fish_cowroot_using_subcommand diff" -l tar -d 'Write what was added and changed to a tar archive (pax: owners, modes, times, extended attributes, hard links, nodes), with the directories that lead there. What was deleted, or is in the way, is listed in FILE.deleted, each path ended by NUL. To carry it over, in the new root: \'xargs -0r rm -rf -- <FILE.deleted\', then \'tar -xpf FILE --numeric-owner --xattrs --xattrs-include=*\'. \'-\' is standard output: then there is no such list, and what else is printed goes to standard error' -r -F
complete -c cowroot -n "__fish_cowroot_using_subcommand diff" -l json -d 'One JSON document instead of text'
complete -c cowroot -n "__fish_cowroot_using_subcommand diff" -s v -l verbose -d 'Say more: each step, not just each change of state'
complete -c cowroot -n "__fish_cowroot_using_subcommand diff" -s h -l help -d 'Print help'
complete -c cowroot -n "__fish_cowroot_using_subcommand diff" -s V -l version -d 'Print version'
complete -c cowroot -n "__fish_cowroot_using_subcommand merge" -l into -d 'Write what the session changed to its base; the session stays usable, and empty. With --undo: the base to put back; default: the one that was merged into' -r -F
complete -c cowroot -n "__fish_cowroot_using_subcommand merge" -l output -d 'Make a new image of base and session here; both stay as they are' -r -F
complete -c cowroot -n "__fish_cowroot_using_subcommand merge" -l base -d 'With --output: the base' -r -F
complete -c cowroot -n "__fish_cowroot_using_subcommand merge" -l up-to -d 'Merge this session, by name or number, and those below it; default: all' -r
complete -c cowroot -n "__fish_cowroot_using_subcommand merge" -l undo-log -d 'Keep what is overwritten in this file, so that --undo can put it back' -r -F
complete -c cowroot -n "__fish_cowroot_using_subcommand merge" -l undo -d 'Put back what this undo log has kept, and the session on it, if the cowfile still has that' -r -F
complete -c cowroot -n "__fish_cowroot_using_subcommand merge" -l progress -d 'How to show how far it is' -r -f -a "auto\t'A bar on a terminal, a line a second elsewhere'
none\t'Not at all'
json\t'A line of JSON a second, on standard output'"
complete -c cowroot -n "__fish_cowroot_using_subcommand merge" -l next-boot -d 'Let the next boot merge, before it mounts the root'
complete -c cowroot -n "__fish_cowroot_using_subcommand merge" -l cancel -d 'With --next-boot: do not, after all'
complete -c cowroot -n "__fish_cowroot_using_subcommand merge" -l without-undo-log -d 'Go on with a merge that was begun with an undo log that is lost; nothing can be taken back then'
complete -c cowroot -n "__fish_cowroot_using_subcommand merge" -l without-cowfile -d 'With --undo: put back the base alone; a cowfile that stands on the merged base no longer fits'
complete -c cowroot -n "__fish_cowroot_using_subcommand merge" -l keep -d 'Keep the merged session in the cowfile until the one after it was used once (default)'
complete -c cowroot -n "__fish_cowroot_using_subcommand merge" -l free -d 'Drop the merged session as soon as the base has it'
complete -c cowroot -n "__fish_cowroot_using_subcommand merge" -l dry-run -d 'Only say what would be done, and whether it can be'
complete -c cowroot -n "__fish_cowroot_using_subcommand merge" -s v -l verbose -d 'Say more: each step, not just each change of state'
complete -c cowroot -n "__fish_cowroot_using_subcommand merge" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cowroot -n "__fish_cowroot_using_subcommand merge" -s V -l version -d 'Print version'
complete -c cowroot -n "__fish_cowroot_using_subcommand boot" -l stage -d 'Do one step and return: for an initramfs that has an init of its own. Without it this process must be the initramfs\'s init' -r -f -a "parse\t'Read the kernel command line: prints \'local\' or \'network\', or nothing if cowroot is not asked for'
attach\t'Find the media, start the daemon: the device is there'
mount\t'Mount the root'
finish\t'Before the switch to the root: what it takes to shut down well'
shutdown\t'After the root is unmounted: commit, detach, let go of the media'
take-back\t'As the last that sysvinit runs, which gives nothing back to an initramfs: take PID 1 from it, unmount the root, do what `shutdown` does, and end the machine. Nothing where the root is not cowroot\'s'"
complete -c cowroot -n "__fish_cowroot_using_subcommand boot" -l root -d 'Where the root is mounted, for --stage' -r -F
complete -c cowroot -n "__fish_cowroot_using_subcommand boot" -l cmdline -d 'Read the kernel command line from here instead of /proc/cmdline' -r -F
complete -c cowroot -n "__fish_cowroot_using_subcommand boot" -l verb -d 'What becomes of the machine, for --stage=take-back' -r -f -a "poweroff\t'Off'
reboot\t'Started again'
halt\t'Stopped, with its power on'
kexec\t'The kernel that was loaded (kexec -l), started without the firmware'"
complete -c cowroot -n "__fish_cowroot_using_subcommand boot" -l set-ip -d 'Bring the network up by the words ip=, too, for --stage=attach: where the initramfs does not, or only with DHCP'
complete -c cowroot -n "__fish_cowroot_using_subcommand boot" -s v -l verbose -d 'Say more: each step, not just each change of state'
complete -c cowroot -n "__fish_cowroot_using_subcommand boot" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cowroot -n "__fish_cowroot_using_subcommand boot" -s V -l version -d 'Print version'
complete -c cowroot -n "__fish_cowroot_using_subcommand explain" -s v -l verbose -d 'Say more: each step, not just each change of state'
complete -c cowroot -n "__fish_cowroot_using_subcommand explain" -s h -l help -d 'Print help'
complete -c cowroot -n "__fish_cowroot_using_subcommand explain" -s V -l version -d 'Print version'
complete -c cowroot -n "__fish_cowroot_using_subcommand upgrade" -s v -l verbose -d 'Say more: each step, not just each change of state'
complete -c cowroot -n "__fish_cowroot_using_subcommand upgrade" -s h -l help -d 'Print help'
complete -c cowroot -n "__fish_cowroot_using_subcommand upgrade" -s V -l version -d 'Print version'
complete -c cowroot -n "__fish_cowroot_using_subcommand help; and not __fish_seen_subcommand_from attach detach create status info check session diff merge boot explain upgrade help" -f -a "attach" -d 'Stack a cowfile on a base and serve both as one writable block device'
complete -c cowroot -n "__fish_cowroot_using_subcommand help; and not __fish_seen_subcommand_from attach detach create status info check session diff merge boot explain upgrade help" -f -a "detach" -d 'Stop serving a device; what a tmpfs cowfile holds is gone then'
complete -c cowroot -n "__fish_cowroot_using_subcommand help; and not __fish_seen_subcommand_from attach detach create status info check session diff merge boot explain upgrade help" -f -a "create" -d 'Make an empty cowfile for a base, to keep what is written'
complete -c cowroot -n "__fish_cowroot_using_subcommand help; and not __fish_seen_subcommand_from attach detach create status info check session diff merge boot explain upgrade help" -f -a "status" -d 'Show the devices this machine serves: space, base, health'
complete -c cowroot -n "__fish_cowroot_using_subcommand help; and not __fish_seen_subcommand_from attach detach create status info check session diff merge boot explain upgrade help" -f -a "info" -d 'Show what a cowfile holds, and which base it wants'
complete -c cowroot -n "__fish_cowroot_using_subcommand help; and not __fish_seen_subcommand_from attach detach create status info check session diff merge boot explain upgrade help" -f -a "check" -d 'Read all of a cowfile and say what is damaged; exit code 3 if anything is'
complete -c cowroot -n "__fish_cowroot_using_subcommand help; and not __fish_seen_subcommand_from attach detach create status info check session diff merge boot explain upgrade help" -f -a "session" -d 'Keep several sessions in one cowfile: list, begin, seal, rename, roll back, delete'
complete -c cowroot -n "__fish_cowroot_using_subcommand help; and not __fish_seen_subcommand_from attach detach create status info check session diff merge boot explain upgrade help" -f -a "diff" -d 'List the files that a session has added, changed and deleted in its base\'s; or pack them'
complete -c cowroot -n "__fish_cowroot_using_subcommand help; and not __fish_seen_subcommand_from attach detach create status info check session diff merge boot explain upgrade help" -f -a "merge" -d 'Write what a session changed to its base, or to a new image; or take that back'
complete -c cowroot -n "__fish_cowroot_using_subcommand help; and not __fish_seen_subcommand_from attach detach create status info check session diff merge boot explain upgrade help" -f -a "boot" -d 'The initramfs entry point (also when run as /init): find, attach, mount, switch root'
complete -c cowroot -n "__fish_cowroot_using_subcommand help; and not __fish_seen_subcommand_from attach detach create status info check session diff merge boot explain upgrade help" -f -a "explain" -d 'Say what a kernel command line would do, without doing it'
complete -c cowroot -n "__fish_cowroot_using_subcommand help; and not __fish_seen_subcommand_from attach detach create status info check session diff merge boot explain upgrade help" -f -a "upgrade" -d 'Hand running devices to this binary: nothing that uses them notices more than a pause'
complete -c cowroot -n "__fish_cowroot_using_subcommand help; and not __fish_seen_subcommand_from attach detach create status info check session diff merge boot explain upgrade help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c cowroot -n "__fish_cowroot_using_subcommand help; and __fish_seen_subcommand_from session" -f -a "list" -d 'Show the sessions of a cowfile: which stands on which, which takes the writes'
complete -c cowroot -n "__fish_cowroot_using_subcommand help; and __fish_seen_subcommand_from session" -f -a "new" -d 'Begin an empty session; the one it stands on is sealed, and stays as it is'
complete -c cowroot -n "__fish_cowroot_using_subcommand help; and __fish_seen_subcommand_from session" -f -a "seal" -d 'Let a session take no writes any more; if it took them, an empty one begins on it'
complete -c cowroot -n "__fish_cowroot_using_subcommand help; and __fish_seen_subcommand_from session" -f -a "rename" -d 'Give a session another name'
complete -c cowroot -n "__fish_cowroot_using_subcommand help; and __fish_seen_subcommand_from session" -f -a "rollback" -d 'Drop all that was written to the session that takes the writes; the one below takes them again'
complete -c cowroot -n "__fish_cowroot_using_subcommand help; and __fish_seen_subcommand_from session" -f -a "delete" -d 'Drop a session that no other stands on and that does not take the writes'
complete -c cowroot -n "__fish_cowroot_using_subcommand help; and __fish_seen_subcommand_from session" -f -a "export" -d 'Write what a session and those below it have over the base to one compressed, checksummed file'
complete -c cowroot -n "__fish_cowroot_using_subcommand help; and __fish_seen_subcommand_from session" -f -a "import" -d 'Bring an exported session into a cowfile for the same base, as a session on the base'
