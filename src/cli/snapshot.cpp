#include "cli/snapshot.h"

#include <CLI/CLI.hpp>

#include "cli/snapshot_commands.h"

namespace doppel::cli {
namespace {

CLI::App* add(CLI::App& group, const char* name, const char* description, SnapshotOptions& options,
              std::function<int()>& action, int (*work)(const SnapshotOptions&)) {
  CLI::App* const command = group.add_subcommand(name, description);
  command->callback([&options, &action, work] { action = [&options, work] { return work(options); }; });
  return command;
}

void add_machine(CLI::App* command, SnapshotOptions& options, const char* description) {
  command->add_option("NAME", options.machine, description)->required();
}

CLI::Option* add_tag(CLI::App* command, SnapshotOptions& options, const char* description) {
  return command->add_option("TAG", options.tag, description);
}

}  // namespace

std::shared_ptr<void> add_snapshot_commands(CLI::App& app, std::function<int()>& action) {
  auto options = std::make_shared<SnapshotOptions>();
  CLI::App* const group = app.add_subcommand("snapshot", "save machines as they run, and go back to what was saved");
  group->require_subcommand(1);
  group->footer(
      "\nExamples:\n"
      "  doppel snapshot create web ready       save the running machine web; it goes on\n"
      "  doppel snapshot list web\n"
      "  doppel snapshot restore web ready      web is again what it was\n"
      "  doppel run --from web:ready            another machine that goes on from there");

  CLI::App* const create = add(*group, "create", "save a running machine", *options, action, snapshot_create);
  add_machine(create, *options, "a machine, as doppel ps lists it");
  add_tag(create, *options, "what to call the snapshot; default: s1, s2 …");
  create->add_flag("--full", options->full, "write all memory, not only what has changed since the last snapshot");
  create->add_flag("--compress", options->compress,
                   "keep its memory compressed (zstd); who goes on from it unpacks it first");
  create->add_flag("--warm", options->warm,
                   "have a machine wait at it for doppel run --from -c, as doppel snapshot warm does");
  create->add_flag("--json", options->json, "print what it cost as JSON");
  create->add_flag("-q,--quiet", options->quiet, "print nothing");

  CLI::App* const list = add(*group, "list", "show snapshots as a tree", *options, action, snapshot_list);
  list->add_option("NAME", options->machine, "of this machine only");
  list->add_flag("--json", options->json, "as JSON");

  CLI::App* const restore = add(*group, "restore", "make a machine again what it was; a running one is ended", *options,
                                action, snapshot_restore);
  add_machine(restore, *options, "a machine, running or not");
  add_tag(restore, *options, "the snapshot; default: the newest");
  restore->add_option("--engine", options->engine, "what executes the guest: auto, dbt or interp")
      ->type_name("NAME")
      ->capture_default_str();
  restore->footer("\nThe machine runs in the background; its name is printed. See doppel console, doppel run --from.");

  CLI::App* const remove = add(*group, "delete", "remove snapshots", *options, action, snapshot_delete);
  add_machine(remove, *options, "a machine, running or not");
  remove->add_option("TAG", options->tags, "the snapshots; those that came after them stay whole")->required();

  CLI::App* const warm =
      add(*group, "warm", "have machines wait at a snapshot for doppel run --from -c", *options, action, snapshot_warm);
  add_machine(warm, *options, "a machine, running or not");
  add_tag(warm, *options, "the snapshot; default: the newest");
  warm->add_option("-n,--number", options->number, "how many; 0 ends them")->capture_default_str();
  warm->add_option("--engine", options->engine, "what executes the guest: auto, dbt or interp")
      ->type_name("NAME")
      ->capture_default_str();
  warm->add_flag("--refill", options->refill, "as many as were asked for last")->group("");
  warm->add_flag("-q,--quiet", options->quiet, "do not print their names");
  warm->footer(
      "\nThey are paused and take no time of the processor; each serves one command, and another takes its place.");

  CLI::App* const verify =
      add(*group, "verify", "read a snapshot and compare its checksums", *options, action, snapshot_verify);
  add_machine(verify, *options, "a machine, running or not");
  add_tag(verify, *options, "the snapshot; default: the newest");
  verify->add_flag("-q,--quiet", options->quiet, "no progress bar");

  CLI::App* const to_file =
      add(*group, "export", "write a snapshot to one compressed file", *options, action, snapshot_export);
  add_machine(to_file, *options, "a machine, running or not");
  add_tag(to_file, *options, "the snapshot")->required();
  to_file->add_option("FILE", options->file, "where to")->required();
  to_file->add_flag("-q,--quiet", options->quiet, "no progress bar");

  CLI::App* const from_file = add(*group, "import", "read such a file", *options, action, snapshot_import);
  from_file->add_option("FILE", options->file, "what doppel snapshot export has written")->required();
  from_file->add_option("NAME", options->reference, "what to call it; default: as it was called")
      ->type_name("MACHINE[:TAG]");

  for (CLI::App* const command : group->get_subcommands({})) command->set_help_flag("-h,--help", "print this help");
  return options;
}

}  // namespace doppel::cli
