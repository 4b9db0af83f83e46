#include "control/api.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/version.h"
#include "control/fake_vm.h"

namespace doppel::control {
namespace {

using nlohmann::json;
using test::FakeVm;
using testing::HasSubstr;

HttpResponse ask(FakeVm& vm, std::string method, std::string target, std::string body = {}) {
  return answer({std::move(method), std::move(target), std::move(body), true}, vm);
}

TEST(Api, DescribesTheInstanceInFirecrackersWords) {
  FakeVm vm;
  const HttpResponse response = ask(vm, "GET", "/");
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(json::parse(response.body),
            (json{{"app_name", "doppel"}, {"id", "fake"}, {"state", "Running"}, {"vmm_version", version()}}));
  EXPECT_EQ(json::parse(ask(vm, "GET", "/vm/config").body)["boot-source"]["kernel_image_path"], "vmlinux");
  EXPECT_EQ(json::parse(ask(vm, "GET", "/machine-config").body)["vcpu_count"], 2);
  EXPECT_EQ(json::parse(ask(vm, "GET", "/version").body)["doppel_version"], version());
}

TEST(Api, LooksInside) {
  FakeVm vm;
  EXPECT_EQ(json::parse(ask(vm, "GET", "/vm/inspect").body)["uart"]["ier"], 3);
  EXPECT_EQ(json::parse(ask(vm, "GET", "/vm/stats").body)["instructions"], 7);
  EXPECT_EQ(ask(vm, "PATCH", "/vm/stats", R"({"counting": true})").status, 204);
  EXPECT_EQ(ask(vm, "PATCH", "/vm/stats", R"({"counting": false})").status, 204);
  EXPECT_EQ(vm.asked, "count stop-counting ");
  for (const char* body : {"", "{}", R"({"counting": 1})", R"({"counting": true, "more": 1})"}) {
    EXPECT_EQ(ask(vm, "PATCH", "/vm/stats", body).status, 400) << body;
  }
  EXPECT_EQ(json::parse(ask(vm, "PUT", "/debug/block", R"({"cpu": 1, "address": 16})").body)["blocks"][0][0],
            "code at 16");
  for (const char* body :
       {"[]", "{}", R"({"cpu": 2, "address": 1})", R"({"cpu": -1, "address": 1})", R"({"cpu": 0, "address": "1"})"}) {
    EXPECT_EQ(ask(vm, "PUT", "/debug/block", body).status, 400) << body;
  }
}

TEST(Api, Acts) {
  FakeVm vm;
  EXPECT_EQ(ask(vm, "PUT", "/actions", R"({"action_type":"SendCtrlAltDel"})").status, 204);
  EXPECT_EQ(ask(vm, "PUT", "/actions", R"({"action_type":"FlushMetrics"})").status, 204);
  EXPECT_EQ(ask(vm, "PUT", "/vm/stop").status, 204);
  EXPECT_EQ(ask(vm, "PUT", "/vm/kill").status, 204);
  EXPECT_EQ(vm.asked, "cad power kill ");
}

TEST(Api, TellsTheConsoleItsSize) {
  FakeVm vm;
  EXPECT_EQ(ask(vm, "PUT", "/console/size", R"({"columns":80,"rows":24})").status, 204);
  EXPECT_EQ(vm.asked, "80x24 ");
  EXPECT_THAT(ask(vm, "PUT", "/console/size", R"({"columns":0,"rows":0})").body, HasSubstr("--console virtio"));
}

TEST(Api, SetsTheBalloonsTarget) {
  FakeVm vm;
  EXPECT_EQ(ask(vm, "PATCH", "/balloon", R"({"amount_mib":64})").status, 204);
  EXPECT_EQ(vm.asked, "balloon:67108864 ");
  vm.has_balloon = false;
  EXPECT_THAT(ask(vm, "PATCH", "/balloon", R"({"amount_mib":0})").body, HasSubstr("--balloon"));
}

TEST(Api, PausesAndResumes) {
  FakeVm vm;
  EXPECT_EQ(ask(vm, "PATCH", "/vm", R"({"state":"Paused"})").status, 204);
  EXPECT_EQ(vm.state(), "Paused");
  const HttpResponse stop = ask(vm, "PUT", "/vm/stop");
  EXPECT_EQ(stop.status, 400);
  EXPECT_THAT(stop.body, HasSubstr("resume it first"));
  EXPECT_EQ(ask(vm, "PATCH", "/vm", R"({"state":"Resumed"})").status, 204);
  EXPECT_EQ(vm.state(), "Running");
}

TEST(Api, LoadsSnapshots) {
  FakeVm vm;
  EXPECT_EQ(ask(vm, "PUT", "/snapshot/load", R"({"tag":"s1"})").status, 204);
  EXPECT_EQ(ask(vm, "PUT", "/snapshot/load", R"({"snapshot":"web:s2","resume_vm":true})").status, 204);
  EXPECT_EQ(vm.asked, "load /s1 load web:s2/ running ");
}

TEST(Api, AnswersMistakesWithAFaultMessage) {
  struct Case {
    int status;
    std::string method, target, body;
  };
  const std::vector<Case> cases{
      {400, "PUT", "/actions", ""},
      {400, "PUT", "/actions", "{"},
      {400, "PUT", "/actions", "[]"},
      {400, "PUT", "/actions", "null"},
      {400, "PUT", "/actions", R"({"action_type":1})"},
      {400, "PUT", "/actions", R"({"action_type":"InstanceStart"})"},
      {400, "PUT", "/actions", R"({"action_type":"Dance"})"},
      {400, "PUT", "/actions", R"({"action_type":"SendCtrlAltDel","more":1})"},
      {400, "PUT", "/actions", std::string(60000, '[')},
      {400, "PATCH", "/vm", R"({"state":"Flying"})"},
      {400, "PATCH", "/vm", "\xFF\xFE"},
      {400, "PATCH", "/balloon", R"({"amount_mib":-1})"},
      {400, "PATCH", "/balloon", R"({"amount_mib":1e30})"},
      {400, "PATCH", "/balloon", R"({"amount_mib":99999999999})"},
      {400, "PATCH", "/balloon", "{}"},
      {400, "PUT", "/console/size", R"({"columns":80})"},
      {400, "PUT", "/console/size", R"({"columns":80,"rows":65536})"},
      {400, "PUT", "/snapshot/create", ""},
      {400, "PUT", "/snapshot/create", "{}"},
      {400, "PUT", "/snapshot/create", R"({"tag":7})"},
      {400, "PUT", "/snapshot/create", R"({"tag":"s1","snapshot_type":"Half"})"},
      {400, "PUT", "/snapshot/create", R"({"snapshot_path":"/tmp/x","mem_file_path":"/tmp/y"})"},
      {400, "PUT", "/snapshot/load", "[]"},
      {400, "PUT", "/snapshot/load", "{}"},
      {400, "PUT", "/snapshot/load", R"({"tag":"s1","snapshot":"web:s1"})"},
      {400, "PUT", "/snapshot/load", R"({"tag":"s1","resume_vm":1})"},
      {400, "PUT", "/snapshot/load", R"({"snapshot_path":"/tmp/x","mem_backend":{}})"},
      {400, "PUT", "/snapshot/load", R"({"tag":"refused"})"},
      {404, "GET", "/nowhere", ""},
      {404, "GET", "/vm/config/", ""},
      {405, "DELETE", "/vm", ""},
      {405, "GET", "/actions", ""},
  };
  for (const Case& c : cases) {
    FakeVm vm;
    const HttpResponse response = ask(vm, c.method, c.target, c.body);
    EXPECT_EQ(response.status, c.status) << c.target << " " << c.body.substr(0, 60);
    EXPECT_TRUE(json::parse(response.body).at("fault_message").is_string());
    EXPECT_EQ(vm.asked, "");
  }
}

TEST(Api, MakesSnapshots) {
  FakeVm vm;
  const HttpResponse response = ask(vm, "PUT", "/snapshot/create", R"({"tag":"s1","snapshot_type":"Full"})");
  ASSERT_TRUE(response.later);
  EXPECT_EQ(vm.asked, "") << "before anybody takes the answer";
  std::vector<HttpResponse> answers;
  response.later([&answers](const HttpResponse& answer) { answers.push_back(answer); });
  ASSERT_EQ(answers.size(), 1U);
  EXPECT_EQ(answers[0].status, 200);
  EXPECT_EQ(json::parse(answers[0].body),
            json({{"tag", "s1"}, {"stopped_us", 5}, {"stored_bytes", 4096}, {"incremental", false}}));
  ask(vm, "PUT", "/snapshot/create", R"({"tag":"refused"})").later([&answers](const HttpResponse& answer) {
    answers.push_back(answer);
  });
  ASSERT_EQ(answers.size(), 2U);
  EXPECT_EQ(answers[1].status, 400);
  EXPECT_EQ(json::parse(ask(vm, "GET", "/snapshot").body), json({{"active", true}, {"pages", 10}, {"pages_done", 3}}));
}

}  // namespace
}  // namespace doppel::control
