#include "cli/clone.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>

#include "cli/agent_client.h"
#include "cli/exec.h"
#include "cli/exit_status.h"
#include "cli/message.h"
#include "cli/run.h"
#include "cli/running.h"
#include "cli/snapshot_commands.h"
#include "control/client.h"
#include "control/unix_socket.h"
#include "snapshot/store.h"

namespace doppel::cli {
namespace {

int fail(const Error& error) {
  complain(error.message);
  return exit_status::kFailure;
}

/// Makes a guest's own what it has of the machine that it was: what Linux does by itself (random numbers) the VM
/// generation identifier sees to. $1 is its name, the others the addresses of its network cards.
constexpr const char* kNewIdentity = R"(
exec >/dev/null 2>&1
hostname "$1" || echo "$1" >/proc/sys/kernel/hostname
[ ! -e /etc/hostname ] || echo "$1" >/etc/hostname
[ ! -e /etc/machine-id ] || tr -d - </proc/sys/kernel/random/uuid >/etc/machine-id
shift
for card in /sys/class/net/*/device; do
  [ $# -gt 0 ] || break
  name=${card%/device}
  name=${name##*/}
  up=$(cat /sys/class/net/$name/flags)
  ip link set dev $name down
  ip link set dev $name address "$1"
  [ $((up & 1)) = 0 ] || ip link set dev $name up
  shift
done
true
)";

/// The MAC addresses of a running machine's cards.
std::vector<std::string> addresses_of(const control::RunningVm& vm) {
  std::vector<std::string> addresses;
  const Result<control::HttpResponse> response = control::call(vm.paths.control_socket(), "GET", "/vm/config");
  const auto config = response ? nlohmann::json::parse(response->body, nullptr, false) : nlohmann::json();
  if (!config.is_object()) return addresses;
  for (const auto& card : config.value("network-interfaces", nlohmann::json::array())) {
    addresses.push_back(card.value("guest_mac", ""));
  }
  return addresses;
}

constexpr std::chrono::seconds kAgentPatience{10};

int start_clone(const CloneOptions& options, const snapshot::Manifest& manifest, const std::string& name) {
  RunOptions run_options;
  run_options.from = manifest.machine + ":" + manifest.tag;
  run_options.name = name;
  run_options.engine = options.engine;
  run_options.detach = true;
  run_options.renewed_by_caller = true;
  return run(run_options);
}

/// For agents that know no Renew.
void rename_by_shell(const control::RunningVm& vm) {
  const std::string& name = vm.name;
  ExecOptions exec{.name = name, .command = {"sh", "-c", kNewIdentity, "sh", name}};
  for (const std::string& address : addresses_of(vm)) exec.command.push_back(address);
  exec.patience = std::chrono::seconds(2);
  if (exec_in_guest(exec) != exit_status::kSuccess) {
    complain(fmt::format("{} runs, but its guest has no agent that would give it a name of its own", name));
  }
}

bool set_state(const control::RunningVm& vm, const char* state) {
  const std::string body = fmt::format(R"({{"state": "{}"}})", state);
  return control::call(vm.paths.control_socket(), "PATCH", "/vm", body).ok();
}

/// Gives guests identities of their own, as many at a time as the host has processors. Who has its own waits, paused,
/// for the others: guests that hear of another time, name and address start to work on that, and would take the
/// processors from those that are still the same machine.
class Renewals {
 public:
  ~Renewals() {
    finish(0);
    for (const control::RunningVm& vm : waiting_) set_state(vm, "Resumed");
  }
  void begin(const std::string& name) {
    Result<control::RunningVm> vm = find_running(name);
    if (!vm) return;
    Result<UniqueFd> socket = control::connect_unix(vm->paths.vsock_socket());
    if (!socket || !request_vsock(socket->get(), agent::kPort)) return rename_by_shell(*vm);
    under_way_.push_back({*std::move(vm), *std::move(socket)});
    finish(std::max(std::thread::hardware_concurrency(), 1U) - 1);
  }

 private:
  struct Guest {
    control::RunningVm vm;
    UniqueFd agent;
    bool told = false;
  };
  using Clock = std::chrono::steady_clock;

  /// Waits until no more than so many are under way.
  void finish(std::size_t left) {
    auto end = Clock::now() + kAgentPatience;
    while (under_way_.size() > left) {
      std::vector<pollfd> ready;
      for (const Guest& guest : under_way_) ready.push_back({guest.agent.get(), POLLIN, 0});
      const auto patience = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now());
      const int events = ::poll(ready.data(), ready.size(), std::max(0, static_cast<int>(patience.count())));
      if (events < 0 && errno == EINTR) continue;
      std::vector<Guest> others;
      for (std::size_t i = 0; i < ready.size(); ++i) {
        Guest& guest = under_way_[i];
        if (ready[i].revents != 0 && !guest.told) {
          guest.told = await_vsock(guest.agent.get(), kAgentPatience) &&
                       send_renewal(guest.agent.get(), {guest.vm.name, addresses_of(guest.vm)});
          if (guest.told) {
            others.push_back(std::move(guest));
            continue;
          }
        } else if (ready[i].revents != 0 && receive_renewed(guest.agent.get())) {
          set_state(guest.vm, "Paused");
          waiting_.push_back(std::move(guest.vm));
          continue;
        } else if (ready[i].revents == 0 && events > 0) {
          others.push_back(std::move(guest));
          continue;
        }
        rename_by_shell(guest.vm);
      }
      under_way_ = std::move(others);
      end = Clock::now() + kAgentPatience;
    }
  }

  std::vector<Guest> under_way_;
  std::vector<control::RunningVm> waiting_;
};

/// A snapshot for the clones alone: they hold its files open when it is gone.
class TemporarySnapshot {
 public:
  TemporarySnapshot(snapshot::Store store, std::string machine)
      : store_(std::move(store)), machine_(std::move(machine)), tag_(fmt::format("clone-{}", ::getpid())) {}
  ~TemporarySnapshot() { static_cast<void>(store_.remove(machine_, tag_).ok()); }
  TemporarySnapshot(const TemporarySnapshot&) = delete;
  TemporarySnapshot& operator=(const TemporarySnapshot&) = delete;

  int create() const {
    SnapshotOptions options;
    options.machine = machine_;
    options.tag = tag_;
    options.quiet = true;
    return snapshot_create(options);
  }
  const std::string& tag() const { return tag_; }

 private:
  const snapshot::Store store_;
  const std::string machine_, tag_;
};

}  // namespace

int clone_machine(const CloneOptions& options) {
  Result<snapshot::Reference> reference = snapshot::Reference::parse(options.source);
  if (!reference) return fail(reference.error());
  const Result<snapshot::Store> store = snapshot::Store::of_user();
  if (!store) return fail(store.error());
  std::optional<TemporarySnapshot> temporary;
  if (reference->tag.empty() && find_running(reference->machine)) {
    temporary.emplace(*store, reference->machine);
    if (const int status = temporary->create(); status != exit_status::kSuccess) return status;
    reference->tag = temporary->tag();
  }
  const Result<snapshot::Manifest> manifest = store->find(*reference);
  if (!manifest) return fail(manifest.error());
  const std::string prefix = options.prefix.empty() ? reference->machine : options.prefix;
  unsigned number = 0;
  int status = exit_status::kSuccess;
  std::optional<Renewals> renewals;
  if (manifest->vsock) renewals.emplace();
  for (unsigned started = 0; started < options.number && status == exit_status::kSuccess; ++started) {
    std::string name;
    do {
      name = fmt::format("{}-{}", prefix, ++number);
    } while (find_running(name));
    status = start_clone(options, *manifest, name);
    if (status == exit_status::kSuccess && renewals) renewals->begin(name);
  }
  return status;
}

}  // namespace doppel::cli
