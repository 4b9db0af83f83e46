#include "cli/snapshot_commands.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <atomic>
#include <ctime>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "cli/exit_status.h"
#include "cli/manage.h"
#include "cli/message.h"
#include "cli/progress_bar.h"
#include "cli/run.h"
#include "cli/running.h"
#include "cli/units.h"
#include "cli/warm_pool.h"
#include "control/client.h"
#include "control/registry.h"
#include "snapshot/archive.h"
#include "snapshot/store.h"

namespace doppel::cli {
namespace {

using control::RunningVm;
using nlohmann::json;
using snapshot::Manifest;
using snapshot::Store;

constexpr std::chrono::hours kCreatePatience{24};
constexpr std::chrono::seconds kProgressPatience{2};
constexpr int kProgressStepMs = 100;

int fail(const Error& error, int status = exit_status::kFailure) {
  complain(error.message);
  return status;
}

/// The first of s1, s2 … that is free.
Result<std::string> free_tag(const std::string& machine) {
  const Result<Store> store = Store::of_user();
  if (!store) return store.error();
  const Result<std::vector<Manifest>> all = store->list(machine);
  if (!all) return all.error();
  for (unsigned number = 1;; ++number) {
    std::string tag = fmt::format("s{}", number);
    if (std::ranges::find(*all, tag, &Manifest::tag) == all->end()) return tag;
  }
}

/// Draws how far a machine has come with its snapshot, until it is told to stop.
class CreateProgress {
 public:
  CreateProgress(const RunningVm& vm, const std::string& tag, bool quiet)
      : vm_(vm), bar_("saving " + tag, quiet), thread_([this] { follow(); }) {}
  ~CreateProgress() {
    done_ = true;
    thread_.join();
  }
  CreateProgress(const CreateProgress&) = delete;
  CreateProgress& operator=(const CreateProgress&) = delete;

 private:
  void follow() {
    while (!done_) {
      const auto response = control::call(vm_.paths.control_socket(), "GET", "/snapshot", {}, kProgressPatience);
      const json progress = response ? json::parse(response->body, nullptr, false) : json();
      if (progress.is_object()) bar_.show(progress.value("pages_done", 0U), std::max(1U, progress.value("pages", 1U)));
      for (int waited = 0; waited < kProgressStepMs && !done_; waited += 10) ::poll(nullptr, 0, 10);
    }
  }

  const RunningVm& vm_;
  ProgressBar bar_;
  std::atomic<bool> done_ = false;
  std::thread thread_;
};

/// What a bar shows of work that says how far it is as a part of 1.
auto part_of(ProgressBar& bar) {
  return [&bar](double done) {
    constexpr double kSteps = 1000;
    bar.show(static_cast<std::uint64_t>(done * kSteps), static_cast<std::uint64_t>(kSteps));
  };
}

Result<void> compress(const std::string& machine, const std::string& tag, bool quiet) {
  const Result<Store> store = Store::of_user();
  if (!store) return store.error();
  const Result<Manifest> manifest = store->find({machine, tag});
  if (!manifest) return manifest.error();
  ProgressBar bar("compressing " + tag, quiet);
  return store->pack(*manifest, part_of(bar));
}

/// The nearest ancestor that is still there; empty: none.
std::string parent_of(const Manifest& manifest, const std::vector<Manifest>& all) {
  for (const std::string& tag : manifest.ancestors) {
    const auto same = [&](const Manifest& other) { return other.machine == manifest.machine && other.tag == tag; };
    if (tag != manifest.tag && std::ranges::any_of(all, same)) return tag;
  }
  return {};
}

std::string format_time(std::int64_t time) {
  const std::time_t seconds = time;
  std::tm local{};
  ::localtime_r(&seconds, &local);
  std::array<char, 32> text{};
  const std::size_t length = std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S", &local);
  return {text.data(), length};
}

void print_tree(const std::vector<Manifest>& all, const std::string& machine, const std::string& parent,
                unsigned depth) {
  for (const Manifest& manifest : all) {
    if (manifest.machine != machine || parent_of(manifest, all) != parent) continue;
    fmt::print("{:<32} {:<19} {:>7} {:>7} {:>4}\n",
               fmt::format("{}{}:{}", std::string(std::size_t{2} * depth, ' '), machine, manifest.tag),
               format_time(manifest.created), format_size(manifest.stored_bytes), format_size(manifest.memory_bytes),
               manifest.cpus);
    print_tree(all, machine, manifest.tag, depth + 1);
  }
}

json to_json(const Manifest& manifest, const std::vector<Manifest>& all) {
  const std::string parent = parent_of(manifest, all);
  return {{"machine", manifest.machine},
          {"tag", manifest.tag},
          {"parent", parent.empty() ? json() : json(parent)},
          {"created", manifest.created},
          {"stored_bytes", manifest.stored_bytes},
          {"memory_bytes", manifest.memory_bytes},
          {"cpus", manifest.cpus},
          {"layers", manifest.layers.size()}};
}

}  // namespace

int snapshot_create(const SnapshotOptions& options) {
  const Result<RunningVm> vm = find_running(options.machine);
  if (!vm) return fail(vm.error());
  Result<std::string> tag = options.tag.empty() ? free_tag(options.machine) : Result<std::string>(options.tag);
  if (!tag) return fail(tag.error());
  const json request{{"tag", *tag}, {"snapshot_type", options.full ? "Full" : "Diff"}};
  std::optional<CreateProgress> progress;
  progress.emplace(*vm, *tag, options.quiet);
  const Result<control::HttpResponse> response =
      control::call(vm->paths.control_socket(), "PUT", "/snapshot/create", request.dump(), kCreatePatience);
  progress.reset();
  if (!response) return fail(Error{fmt::format("{}: {}", vm->name, response.error().message)});
  const json report = json::parse(response->body, nullptr, /*allow_exceptions=*/false);
  if (options.compress) {
    if (const Result<void> packed = compress(vm->name, *tag, options.quiet); !packed) return fail(packed.error());
  }
  if (options.warm) {
    const int warmed = warm_machines({.machine = vm->name, .tag = *tag, .quiet = true});
    if (warmed != exit_status::kSuccess) return warmed;
  }
  if (options.json) {
    fmt::print("{}\n", report.dump(2));
  } else if (!options.quiet) {
    fmt::print("{}:{}\n", vm->name, *tag);
  }
  return exit_status::kSuccess;
}

int snapshot_list(const SnapshotOptions& options) {
  const Result<Store> store = Store::of_user();
  if (!store) return fail(store.error());
  const Result<std::vector<Manifest>> all = store->list(options.machine);
  if (!all) return fail(all.error());
  if (options.json) {
    json entries = json::array();
    for (const Manifest& manifest : *all) entries.push_back(to_json(manifest, *all));
    fmt::print("{}\n", entries.dump(2));
    return exit_status::kSuccess;
  }
  fmt::print("{:<32} {:<19} {:>7} {:>7} {:>4}\n", "SNAPSHOT", "CREATED", "SIZE", "MEMORY", "CPUS");
  std::string machine;
  for (const Manifest& manifest : *all) {
    if (manifest.machine == machine) continue;
    machine = manifest.machine;
    print_tree(*all, machine, {}, 0);
  }
  return exit_status::kSuccess;
}

int snapshot_restore(const SnapshotOptions& options) {
  RunOptions run_options;
  run_options.from = options.tag.empty() ? options.machine : options.machine + ":" + options.tag;
  run_options.name = options.machine;
  run_options.restore = true;
  run_options.engine = options.engine;
  run_options.detach = true;
  // Before anything is ended, whether there is something to go on from.
  const Result<snapshot::Reference> reference = snapshot::Reference::parse(run_options.from);
  if (!reference) return fail(reference.error(), exit_status::kUsage);
  const Result<Store> store = Store::of_user();
  if (!store) return fail(store.error());
  const Result<Manifest> manifest = store->find(*reference);
  if (!manifest) return fail(manifest.error());
  if (const auto opened = store->open(*manifest); !opened) return fail(opened.error());
  if (find_running(options.machine)) {
    if (const int status = kill_machines({options.machine}); status != exit_status::kSuccess) return status;
  }
  return run(run_options);
}

int snapshot_delete(const SnapshotOptions& options) {
  const Result<Store> store = Store::of_user();
  if (!store) return fail(store.error());
  int status = exit_status::kSuccess;
  for (const std::string& tag : options.tags) {
    if (const Result<Manifest> manifest = store->find({options.machine, tag})) end_warm_machines(*manifest);
    if (const Result<void> removed = store->remove(options.machine, tag); !removed) {
      status = fail(removed.error());
    }
  }
  return status;
}

int snapshot_warm(const SnapshotOptions& options) {
  return warm_machines({.machine = options.machine,
                        .tag = options.tag,
                        .engine = options.engine,
                        .number = options.number,
                        .refill = options.refill,
                        .quiet = options.quiet});
}

int snapshot_verify(const SnapshotOptions& options) {
  const Result<Store> store = Store::of_user();
  if (!store) return fail(store.error());
  const Result<Manifest> manifest = store->find({options.machine, options.tag});
  if (!manifest) return fail(manifest.error());
  Result<void> good;
  {
    ProgressBar bar("verifying " + manifest->tag, options.quiet);
    good = store->verify(*manifest, part_of(bar));
  }
  return good ? exit_status::kSuccess : fail(good.error());
}

int snapshot_export(const SnapshotOptions& options) {
  const Result<Store> store = Store::of_user();
  if (!store) return fail(store.error());
  const Result<Manifest> manifest = store->find({options.machine, options.tag});
  if (!manifest) return fail(manifest.error());
  Result<void> done;
  {
    ProgressBar bar("exporting " + manifest->tag, options.quiet);
    done = snapshot::export_snapshot(*store, *manifest, options.file, part_of(bar));
  }
  return done ? exit_status::kSuccess : fail(done.error());
}

int snapshot_import(const SnapshotOptions& options) {
  const Result<Store> store = Store::of_user();
  if (!store) return fail(store.error());
  std::optional<snapshot::Reference> name;
  if (!options.reference.empty()) {
    Result<snapshot::Reference> parsed = snapshot::Reference::parse(options.reference);
    if (!parsed) return fail(parsed.error(), exit_status::kUsage);
    name = *std::move(parsed);
  }
  const Result<snapshot::Reference> imported = snapshot::import_snapshot(*store, options.file, name);
  if (!imported) return fail(imported.error());
  fmt::print("{}:{}\n", imported->machine, imported->tag);
  return exit_status::kSuccess;
}

}  // namespace doppel::cli
