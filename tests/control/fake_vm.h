#pragma once

#include <nlohmann/json.hpp>
#include <string>

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
  void pause() override { state_ = "Paused"; }
  void resume() override { state_ = "Running"; }
  void press_power_button() override { asked += "power "; }
  void send_ctrl_alt_del() override { asked += "cad "; }
  void send_break() override { asked += "break "; }
  bool set_balloon(std::uint64_t bytes) override {
    asked += "balloon:" + std::to_string(bytes) + " ";
    return has_balloon;
  }
  void kill() override { asked += "kill "; }

  std::string asked;
  bool has_balloon = true;

 private:
  std::string state_ = "Running";
};

}  // namespace doppel::test
