#include "cli/app.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/version.h"
#include "cli/agent_script.h"
#include "cli/attach.h"
#include "cli/clone.h"
#include "cli/completion.h"
#include "cli/exec.h"
#include "cli/exit_status.h"
#include "cli/image.h"
#include "cli/logs.h"
#include "cli/manage.h"
#include "cli/message.h"
#include "cli/run.h"
#include "cli/snapshot.h"

namespace doppel::cli {
namespace {

constexpr const char* kExamples = R"(
Examples:
  doppel run                                   boot the built-in Linux to a shell; Ctrl-a x ends it
  doppel run -c 'uname -a'                     run one command in it, exit with its status
  doppel run ./bzImage --initrd ./initrd.img --append 'console=ttyS0'
  doppel image build debian                    make an image of Debian; then: doppel run debian
  doppel run --detach --name web --memory 2G --cpus 2
  doppel ps                                    list machines; then: doppel console web, doppel stop web

doppel COMMAND --help says more about each command.)";

constexpr const char* kRunHelp = R"(
Without KERNEL the built-in guest boots: Debian's kernel with a busybox shell. KERNEL is a file of one of these kinds,
told apart by its contents: a Linux bzImage (as in /boot/vmlinuz-*), an ELF vmlinux with a PVH note, a Multiboot kernel.
Or it is the name of an image of doppel image build. That is never written: what the machine writes ends with it, or
with --name is there again when a machine of that name is started from the image (doppel image remove IMAGE/NAME forgets
it). Such a machine has a user network unless --net says otherwise.

Examples:
  doppel run                                   a shell; leaving it, or Ctrl-a x, ends the machine
  doppel run -c 'make test' <input >output     one command; its input, output and exit status are doppel's
  doppel run --from web:ready -c 'make test'   the same, in a machine that goes on from a snapshot
  doppel run /boot/vmlinuz --initrd /boot/initrd.img --append 'console=ttyS0 single'
  doppel run debian                            an image; log in as root
  doppel run debian -c 'apt-get update'        one command in it
  doppel run debian -d --name web --net user,publish=8080:80
  doppel run ./kernel.elf --module './app.bin --verbose'
  doppel run --gdb :1234 --gdb-wait            then, in gdb: target remote :1234

In the console, Ctrl-a x ends the machine and Ctrl-a h lists the other keys.

Exit status: 0 when the guest powers off, with -c the command's own; 2 for bad usage, 120 guest panic, 121 triple fault,
122 the machine ended before the command did, 125 the host lacks something, 128 + N ended by signal N.)";

/// What run_program() does once the arguments have been understood.
using Action = std::function<int()>;

/// The values that options are parsed into; they live as long as the program parses and acts.
struct Arguments {
  RunOptions run;
  std::vector<std::string> names;
  std::string name;
  std::string shell;
  ExecOptions exec;
  CloneOptions clone;
  std::string source, destination;  ///< of cp
  bool as_json = false;
  bool names_only = false;
  bool follow = false;
  unsigned timeout_s = 60;
  unsigned measured_s = 0;
  std::string address;  ///< of debug block
  unsigned cpu = 0;
  Action action;
};

void add_run(CLI::App& app, Arguments& arguments) {
  RunOptions& options = arguments.run;
  CLI::App* const command = app.add_subcommand("run", "boot a machine");
  command->footer(kRunHelp);
  command->add_option("KERNEL", options.kernel, "the kernel or image to boot; default: the built-in guest")
      ->type_name("FILE|IMAGE");
  command
      ->add_option("-c,--command", options.command,
                   "run CMD in the built-in guest or an image, and exit with its status")
      ->type_name("CMD");
  command
      ->add_option("--from", options.from,
                   "go on from a snapshot, the newest of that machine unless there is a TAG, instead of booting")
      ->type_name("MACHINE[:TAG]");
  command->add_flag("--await-load", options.await_load,
                    "start nothing before PUT /snapshot/load at the control socket has named a snapshot");
  command->add_option("--initrd", options.initrds, "initial RAM disk; repeat for several")
      ->type_name("FILE")
      ->allow_extra_args(false);
  command
      ->add_option("--append", options.append,
                   "the kernel's command line; added to the built-in guest's or image's own")
      ->type_name("TEXT");
  command->add_option("--module", options.modules, "a Multiboot module with its arguments; repeat for several")
      ->type_name("'FILE ARGS'")
      ->allow_extra_args(false);
  command
      ->add_option(
          "--disk", options.disks,
          "a disk image; options: format=raw|qcow2, readonly, snapshot, serial=TEXT, cache=MODE, discard=on|off")
      ->type_name("FILE[,OPTION...]")
      ->allow_extra_args(false);
  command
      ->add_option("--net", options.nets,
                   "a network card: user[,publish=HOST:GUEST[/udp]][,restrict], tap,ifname=NAME, or none (the default)")
      ->type_name("KIND[,OPTION...]")
      ->allow_extra_args(false);
  command
      ->add_option("--share", options.shares,
                   "a directory of the host that the guest sees as GUESTDIR; :ro if it may not write there")
      ->type_name("HOSTDIR:GUESTDIR[:ro]")
      ->allow_extra_args(false);
  command->add_option("--user-data", options.user_data, "for a guest with cloud-init: its configuration")
      ->type_name("FILE");
  command->add_option("--ssh-key", options.ssh_keys, "for a guest with cloud-init: whose key may log in; repeatable")
      ->type_name("FILE")
      ->allow_extra_args(false);
  command->add_option("--hostname", options.hostname, "what the guest is called, if it has cloud-init or is an image")
      ->type_name("NAME");
  command
      ->add_option("--console", options.console,
                   "the guest's console: serial (ttyS0), or virtio (hvc0), which knows the terminal's size")
      ->type_name("serial|virtio")
      ->capture_default_str();
  command->add_flag("--balloon", options.balloon, "let the guest give back memory that it does not use");
  command->add_option("--mac", options.macs, "the MAC address of a network card; the first is for the first card")
      ->type_name("MAC")
      ->allow_extra_args(false);
  const CLI::Option* const memory =
      command->add_option("-m,--memory", options.memory, "RAM, 64M or more; the built-in guest needs 80M")
          ->type_name("SIZE")
          ->capture_default_str();
  const CLI::Option* const cpus =
      command->add_option("--cpus", options.cpus, "processors, 1 to 16")->type_name("N")->capture_default_str();
  command->add_option("--engine", options.engine, "what executes the guest: auto, dbt, interp or lockstep")
      ->type_name("NAME")
      ->capture_default_str();
  command
      ->add_option("--direct", options.direct,
                   "run guest programs in processes of the host's: auto (those that gain by it), always, never")
      ->check(CLI::IsMember({"auto", "always", "never"}))
      ->capture_default_str();
  command
      ->add_option("--code-cache", options.code_cache,
                   "how much translated code each processor keeps, 1M to 1G; default: 64M")
      ->type_name("SIZE");
  command->add_flag("--perf-map", options.perf_map, "name translated code for perf, in /tmp/perf-PID.map");
  command
      ->add_option("--lockstep-from", options.lockstep_from,
                   "with --engine lockstep: run so many blocks before the first that is compared")
      ->type_name("N");
  command
      ->add_option("--lockstep-every", options.lockstep_every,
                   "with --engine lockstep: compare one block in N, to be faster")
      ->type_name("N");
  command->add_option("--name", options.name, "the machine's name for the other commands; default: vm1, vm2 …")
      ->type_name("NAME");
  command->add_flag("-d,--detach", options.detach, "leave the machine running in the background and print its name");
  command->add_flag("--temporary", options.temporary, "with --name: forget what the machine writes to its image");
  command->add_flag("--no-reboot", options.no_reboot, "end when the guest reboots, instead of starting it again");
  command->add_option("--gdb", options.gdb, "serve gdb on a TCP port, on the loopback interface unless HOST is given")
      ->type_name("[HOST]:PORT");
  command->add_flag("--gdb-wait", options.gdb_wait, "with --gdb: execute nothing before gdb says so");
  command
      ->add_option("--jail", options.jail, "on: this process opens and starts nothing of the host's any more; or off")
      ->type_name("on|off")
      ->capture_default_str();
  command
      ->add_option("--log", options.log_level, "how much doppel says itself: trace, debug, info, warning, error, off")
      ->type_name("LEVEL")
      ->capture_default_str();
  command
      ->add_option("--log-file", options.log_file,
                   "where it says so; default: standard error, with --detach ~/.local/state/doppel/NAME.log")
      ->type_name("FILE");
  command->callback([&arguments, memory, cpus] {
    arguments.run.memory_given = memory->count() != 0;
    arguments.run.cpus_given = cpus->count() != 0;
    arguments.action = [&arguments] { return run(arguments.run); };
  });
}

CLI::App* add_for_names(CLI::App& app, Arguments& arguments, const char* name, const char* description,
                        int (*action)(const std::vector<std::string>&)) {
  CLI::App* const command = app.add_subcommand(name, description);
  command->add_option("NAME", arguments.names, "machines, as doppel ps lists them")->required();
  command->callback(
      [&arguments, action] { arguments.action = [&arguments, action] { return action(arguments.names); }; });
  return command;
}

CLI::App* add_for_name(CLI::App& app, Arguments& arguments, const char* name, const char* description,
                       const Action& action) {
  CLI::App* const command = app.add_subcommand(name, description);
  command->add_option("NAME", arguments.name, "a machine, as doppel ps lists it")->required();
  command->callback([&arguments, action] { arguments.action = action; });
  return command;
}

void add_exec(CLI::App& app, Arguments& arguments) {
  CLI::App* const command = app.add_subcommand("exec", "run a command in a machine's guest");
  command->footer(
      "\nThe command and its arguments follow NAME: doppel exec web uname -a; doppel exec -it web sh\n"
      "The exit status is the command's; 127 when the guest has no such command, 125 when no agent answers.");
  command->add_flag("-i,--interactive", arguments.exec.interactive, "pass standard input on");
  command->add_flag("-t,--tty", arguments.exec.terminal, "give the command a terminal");
  command->add_option("NAME", arguments.exec.name, "a machine, as doppel ps lists it")->required();
  command->prefix_command();
  command->callback([&arguments, command] {
    arguments.exec.command = command->remaining();
    if (!arguments.exec.command.empty() && arguments.exec.command.front() == "--") {
      arguments.exec.command.erase(arguments.exec.command.begin());
    }
    arguments.action = [&arguments] { return exec_in_guest(arguments.exec); };
  });

  CLI::App* const copy = app.add_subcommand("cp", "copy files into or out of a machine's guest");
  copy->footer("\nFor example: doppel cp ./site web:/var/www; doppel cp web:/var/log/syslog .");
  copy->add_option("SOURCE", arguments.source, "a file or directory; NAME:PATH is in the machine NAME")->required();
  copy->add_option("DESTINATION", arguments.destination, "where to; one of the two is in a machine")->required();
  copy->callback([&arguments] {
    arguments.action = [&arguments] { return copy_files(arguments.source, arguments.destination); };
  });
}

void add_agent(CLI::App& app, Arguments& arguments) {
  CLI::App* const command = app.add_subcommand("agent", "print a script that installs the agent in a guest");
  command->footer(
      "\nThe agent is what exec, cp and a quick stop talk to. The built-in guest and images of doppel image build have "
      "it.\n"
      "In any other Linux with vsock, as root: doppel agent | ssh root@guest sh; or put the script where the guest can "
      "read\n"
      "it (doppel agent >dir/agent, with --share dir:/mnt) and run it there: sh /mnt/agent.");
  command->callback([&arguments] { arguments.action = print_agent_script; });
}

void add_management(CLI::App& app, Arguments& arguments) {
  CLI::App* const ps = app.add_subcommand("ps", "list the machines that are running");
  ps->add_flag("--json", arguments.as_json, "as JSON");
  ps->add_flag("-q,--quiet", arguments.names_only, "names only");
  ps->callback([&arguments] {
    arguments.action = [&arguments] { return list_machines(arguments.as_json, arguments.names_only); };
  });

  add_for_name(app, arguments, "console", "connect this terminal to a machine's console", [&arguments] {
    return attach_console(arguments.name);
  })->footer("\nCtrl-a x leaves, and the machine goes on; Ctrl-a h lists the other keys.");
  add_for_name(app, arguments, "logs", "print what a machine's console has shown", [&arguments] {
    return print_logs(arguments.name, arguments.follow);
  })->add_flag("-f,--follow", arguments.follow, "go on with what comes, until the machine ends");
  add_for_names(app, arguments, "pause", "stop machines and their clocks", pause_machines);
  add_for_names(app, arguments, "resume", "let paused machines go on", resume_machines);

  CLI::App* const stop = add_for_names(app, arguments, "stop", "shut machines down with their power button", nullptr);
  stop->add_option("-t,--timeout", arguments.timeout_s, "how long to wait for the guest")
      ->type_name("SECONDS")
      ->check(CLI::Range(0U, 86'400U))
      ->capture_default_str();
  stop->callback([&arguments] {
    arguments.action = [&arguments] { return stop_machines(arguments.names, arguments.timeout_s); };
  });
  add_for_names(app, arguments, "kill", "end machines at once, without asking the guest", kill_machines);
  add_for_name(app, arguments, "inspect", "print a machine's whole state as JSON",
               [&arguments] { return inspect_machine(arguments.name); });
  CLI::App* const stats = add_for_name(app, arguments, "stats", "print a machine's counters", [&arguments] {
    if (arguments.measured_s != 0) return measure_stats(arguments.name, arguments.as_json, arguments.measured_s);
    return show_stats(arguments.name, arguments.as_json);
  });
  stats->add_flag("--json", arguments.as_json, "as JSON");
  stats
      ->add_option("--measure", arguments.measured_s,
                   "first count instructions for so long, which slows the machine down: for MIPS and the TLB's hits")
      ->type_name("SECONDS")
      ->check(CLI::Range(1U, 3600U));

  CLI::App* const debug = app.add_subcommand("debug", "look at what the engine does");
  debug->require_subcommand(1);
  CLI::App* const block = add_for_name(*debug, arguments, "block", "print translated code", [&arguments] {
    return show_block(arguments.name, arguments.address, arguments.cpu);
  });
  block->footer("\nFor example: doppel debug block web 0xffffffff81000000");
  block->add_option("ADDRESS", arguments.address, "of the guest's code, as the processor sees memory now; hexadecimal")
      ->required();
  block->add_option("--cpu", arguments.cpu, "whose translation")->type_name("N")->capture_default_str();
}

void add_clone(CLI::App& app, Arguments& arguments) {
  CLI::App* const command = app.add_subcommand("clone", "start machines that go on from another's state");
  command->footer(
      "\nThe clones run in the background, and share memory until they change it. Each has a name, MAC addresses and a "
      "VM\n"
      "generation identifier of its own; where an agent answers, a host name and machine-id as well. Published ports\n"
      "stay with the machine that they were cloned from.");
  command->add_option("MACHINE", arguments.clone.source, "a running machine, or a snapshot: MACHINE:TAG")->required();
  command->add_option("-n,--number", arguments.clone.number, "how many")
      ->type_name("N")
      ->check(CLI::Range(1U, 1000U))
      ->capture_default_str();
  command->add_option("--name", arguments.clone.prefix, "call them PREFIX-1 and so on; default: the machine's name")
      ->type_name("PREFIX");
  command->add_option("--engine", arguments.clone.engine, "what executes the guests: auto, dbt or interp")
      ->type_name("NAME")
      ->capture_default_str();
  command->callback([&arguments] { arguments.action = [&arguments] { return clone_machine(arguments.clone); }; });
}

void add_completion(CLI::App& app, Arguments& arguments) {
  CLI::App* const command = app.add_subcommand("completion", "print a shell's completion script");
  command->footer("\nFor example: doppel completion bash >~/.local/share/bash-completion/completions/doppel");
  command->add_option("SHELL", arguments.shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  command->callback([&app, &arguments] {
    arguments.action = [&app, &arguments] {
      fmt::print("{}", completion_script(app, arguments.shell));
      return exit_status::kSuccess;
    };
  });
}

/// CLI11's words for what is wrong, in one line with a way out.
int report(const CLI::App& app, const CLI::ParseError& error) {
  std::string help = "doppel ";
  const CLI::App* command = &app;
  while (!command->get_subcommands().empty()) {
    command = command->get_subcommands().front();
    help += command->get_name() + " ";
  }
  help += "--help";
  const bool wants_command = !command->get_subcommands([](const CLI::App*) { return true; }).empty();
  std::string text = error.what();
  constexpr std::string_view kUnexpected = "The following argument was not expected: ";
  constexpr std::string_view kUnexpectedMany = "The following arguments were not expected: ";
  for (const std::string_view prefix : {kUnexpected, kUnexpectedMany}) {
    if (!text.starts_with(prefix)) continue;
    text = text.substr(prefix.size());
    const char* const what = text.starts_with('-') ? "option" : wants_command ? "command" : "argument";
    text = fmt::format("unknown {} {}", what, text);
  }
  if (dynamic_cast<const CLI::RequiredError*>(&error) != nullptr && wants_command) {
    const std::vector<std::string> rest = app.remaining(true);
    text = "no command given";
    if (!rest.empty()) text = (rest.front().starts_with('-') ? "unknown option " : "unknown command ") + rest.front();
  }
  complain(fmt::format("{}; see {}", text, help));
  return exit_status::kUsage;
}

}  // namespace

int run_program(int argc, const char* const* argv) {
  CLI::App app("Doppel runs unmodified x86-64 operating systems in virtual machines, with or without hardware support.",
               "doppel");
  app.set_version_flag("--version", "doppel " + std::string(version()));
  app.require_subcommand(1);
  Arguments arguments;
  add_run(app, arguments);
  add_management(app, arguments);
  add_exec(app, arguments);
  add_agent(app, arguments);
  add_clone(app, arguments);
  const std::shared_ptr<void> snapshot_options = add_snapshot_commands(app, arguments.action);
  const std::shared_ptr<void> image_options = add_image_commands(app, arguments.action);
  add_completion(app, arguments);
  app.footer(kExamples);  // now: a command without a footer would have taken it over
  for (CLI::App* const command : app.get_subcommands({})) command->set_help_flag("-h,--help", "print this help");
  app.set_help_flag("-h,--help", "print this help");
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    return report(app, error);
  }
  return arguments.action();
}

}  // namespace doppel::cli
