#pragma once

#include <atomic>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "control/vm.h"

namespace doppel::test {

/// Remembers what was asked of it.
class FakeVm : public control::Vm {
 public:
  std::string name() const override { return "fake"; }
  std::string state() const override { return state_; }
  nlohmann::json config() const override {
    return {{"machine-config", {{"vcpu_count", 2}, {"mem_size_mib", 128}, {"smt", false}}},
            {"boot-source", {{"kernel_image_path", "vmlinux"}}}};
  }
  nlohmann::json inspect() override { return {{"uart", {{"ier", 3}}}}; }
  nlohmann::json stats() override { return {{"instructions", 7}}; }
  void set_counting(bool counting) override { asked += counting ? "count " : "stop-counting "; }
  std::optional<nlohmann::json> describe_code(unsigned vcpu, std::uint64_t linear) override {
    if (vcpu > 1) return std::nullopt;
    return nlohmann::json::array({{"code at " + std::to_string(linear)}});
  }
  void pause() override { state_ = "Paused"; }
  void resume() override { state_ = "Running"; }
  void press_power_button() override { asked += "power "; }
  void send_ctrl_alt_del() override { asked += "cad "; }
  void send_break() override { asked += "break "; }
  bool set_console_size(std::uint16_t columns, std::uint16_t rows) override {
    asked += std::to_string(columns) + "x" + std::to_string(rows) + " ";
    return columns != 0;
  }
  bool set_balloon(std::uint64_t bytes) override {
    asked += "balloon:" + std::to_string(bytes) + " ";
    return has_balloon;
  }
  void kill() override { asked += "kill "; }
  Result<void> snapshot(snapshot::CreateOptions options, snapshot::Snapshotter::Done done) override {
    asked += "snapshot " + options.tag + " ";
    if (options.tag == "refused") return Error{"one is under way"};
    if (options.tag == "slow") {
      slow_ = std::move(done);
      slow = true;
      return {};
    }
    if (options.tag == "fails") {
      done(Error{"the disk is full"});
    } else {
      done(snapshot::CreateReport{std::chrono::microseconds(5), 4096, !options.full});
    }
    return {};
  }
  snapshot::Snapshotter::Progress snapshot_progress() const override { return {true, 10, 3}; }
  Result<void> load(const control::LoadRequest& request) override {
    if (request.tag == "refused") return Error{"there is no such snapshot"};
    asked += "load " + request.snapshot + "/" + request.tag + (request.resume ? " running " : " ");
    return {};
  }

  /// Ends the snapshot "slow", in any thread.
  void finish_slow() { slow_(snapshot::CreateReport{}); }

  std::string asked;
  bool has_balloon = true;
  std::atomic<bool> slow = false;

 private:
  std::string state_ = "Running";
  snapshot::Snapshotter::Done slow_;
};

}  // namespace doppel::test
