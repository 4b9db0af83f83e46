#pragma once

#include "control/http.h"
#include "control/vm.h"

namespace doppel::control {

/// Answers one request of the control socket, in Firecracker's dialect: 204 or 200 with JSON on success, 400 with
/// {"fault_message"} on errors.
///
///     GET   /                              id, state, version
///     GET   /version · /vm/config · /machine-config
///     PUT   /actions                       {"action_type": "InstanceStart" | "SendCtrlAltDel" | "SendBreak" | …}
///     PATCH /vm                            {"state": "Paused" | "Resumed"}
///     PUT   /vm/stop · /vm/kill            the power button; the plug
///     GET   /vm/inspect · /vm/stats        state by name; counters
///     PATCH /vm/stats                      {"counting": true | false}: instructions and look-ups in the TLB, slowly
///     PUT   /debug/block                   {"cpu": N, "address": N}: translations of the guest's code, as text
///     PUT   /snapshot/create               {"tag": "…", "snapshot_type": "Full" | "Diff"}, Diff unless given; answered
///                                          when the snapshot is there, with what it cost
///     GET   /snapshot                      how far that has come
HttpResponse answer(const HttpRequest& request, Vm& vm);

}  // namespace doppel::control
