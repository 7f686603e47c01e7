"""Tests what is read from the text of compiled programs, against numbers counted by hand."""

import pytest

from benchmarks import hlo

# Made up after what XLA and libtpu write: a fusion that needs only a slice of an operand, a loop with three rounds, an
# asynchronous copy into the memory of the chip, a constant with a bracket, and the tables of stack frames.
TEXT = """HloModule jit_f, is_scheduled=true, entry_computation_layout={(f32[8,16]{1,0})->f32[8,16]{1,0}}

FileNames
1 "/x/ucl_jax/augment.py"
2 "/x/flax/linear.py"

FunctionNames
1 "crop"
2 "Dense.__call__"

FileLocations
1 {file_name_id=2 function_name_id=2 line=7 end_line=7 column=4 end_column=9}
2 {file_name_id=1 function_name_id=1 line=5 end_line=5 column=4 end_column=9}

StackFrames
1 {file_location_id=2 parent_frame_id=1}
2 {file_location_id=1 parent_frame_id=2}


%fused (param_0: f32[8,16], param_1: f32[2,16]) -> f32[2,16] {
  %param_0 = f32[8,16]{1,0} parameter(0)
  %param_1 = f32[2,16]{1,0} parameter(1)
  %bitcast.1 = f32[8,16]{1,0} bitcast(%param_0)
  %slice.1 = f32[2,16]{1,0} slice(%bitcast.1), slice={[0:2], [0:16]}
  ROOT %add.1 = f32[2,16]{1,0} add(%slice.1, %param_1)
}

%beside (param_0.1: f32[2,16], param_1.1: f32[8,16], param_2: f32[2,16]) -> (f32[2,16], f32[8,16]) {
  %param_0.1 = f32[2,16]{1,0} parameter(0)
  %param_1.1 = f32[8,16]{1,0} parameter(1)
  %param_2 = f32[2,16]{1,0} parameter(2)
  %gather.1 = f32[8,16]{1,0} all-gather(%param_0.1), channel_id=1, dimensions={0}
  %negate.2 = f32[2,16]{1,0} negate(%param_2)
  ROOT %tuple.2 = (f32[2,16]{1,0}, f32[8,16]{1,0}) tuple(%negate.2, %gather.1)
}

%body (state: (s32[], bf16[4])) -> (s32[], bf16[4]) {
  %state = (s32[], bf16[4]{0}) parameter(0)
  %get.1 = bf16[4]{0} get-tuple-element(%state), index=1
  %negate.1 = bf16[4]{0} negate(%get.1)
  %count = s32[] get-tuple-element(%state), index=0
  ROOT %tuple.1 = (s32[], bf16[4]{0}) tuple(%count, %negate.1)
}

%condition (state.1: (s32[], bf16[4])) -> pred[] {
  %state.1 = (s32[], bf16[4]{0}) parameter(0)
  %count.1 = s32[] get-tuple-element(%state.1), index=0
  %three = s32[] constant(3)
  ROOT %less = pred[] compare(%count.1, %three), direction=LT
}

ENTRY %main (x.1: f32[8,16], y.1: f32[2,16], z.1: (s32[], bf16[4])) -> f32[2,16] {
  %x.1 = f32[8,16]{1,0} parameter(0), metadata={op_name="x"}
  %y.1 = f32[2,16]{1,0:T(8,128)} parameter(1)
  %z.1 = (s32[], bf16[4]{0}) parameter(2)
  %word = u8[3]{0} constant(")(\\")
  %while.1 = (s32[], bf16[4]{0}) while(%z.1), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"3"}}
  %copy-start.1 = (f32[2,16]{1,0:T(8,128)S(1)}, f32[2,16]{1,0:T(8,128)}, u32[]{:S(2)}) copy-start(%y.1)
  %copy-done.1 = f32[2,16]{1,0:T(8,128)S(1)} copy-done(%copy-start.1)
  %slice-start.1 = ((f32[8,16]{1,0}), f32[1,16]{1,0:S(1)}, s32[]{:S(2)}) slice-start(%x.1), slice={[3:4], [0:16]}
  %slice-done.1 = f32[1,16]{1,0:S(1)} slice-done(%slice-start.1)
  %fusion.2 = (f32[2,16]{1,0}, f32[8,16]{1,0}) fusion(%y.1, %x.1, %y.1), kind=kLoop, output_to_operand_aliasing={{1}: (1, {})}, calls=%beside
  ROOT %fusion.1 = f32[2,16]{0,1:T(8,128)(2,1)} fusion(%x.1, /*index=1*/%copy-done.1), kind=kLoop, calls=%fused, metadata={op_name="jit(f)/add" stack_frame_id=2}, backend_config={"window_config":{"estimated_cycles":"1234"}}
}
"""  # noqa: E501


def test_launches_of_a_text():
    program = hlo.parse(TEXT)
    found = [(one.instruction.name, one.computation, one.times, one.read, one.written) for one in hlo.launches(program)]
    assert found == [
        ("less", "condition", 3, 2 * 4, 1),
        ("negate.1", "body", 3, 2 * 4, 2 * 4),
        ("copy-start.1", "main", 1, 2 * 16 * 4, 0),  # what it writes is on the chip
        ("slice-start.1", "main", 1, 16 * 4, 0),
        ("fusion.2", "main", 1, 2 * 2 * 16 * 4, 2 * 16 * 4),  # x is passed on
        ("fusion.1", "main", 1, 2 * 16 * 4, 2 * 16 * 4),  # of x it needs two rows; y is on the chip
    ]


def test_instructions_of_a_text():
    program = hlo.parse(TEXT)
    body = program.computations[program.entry]
    fusion = body["fusion.1"]
    assert fusion.result == [hlo.Array("f32", (2, 16), (0, 1), on_chip=False)]
    assert (fusion.op, fusion.operands, fusion.cycles) == ("fusion", ["x.1", "copy-done.1"], 1234)
    assert (fusion.op_name, program.frame(fusion)) == ("jit(f)/add", "/x/flax/linear.py:Dense.__call__")
    assert (body["x.1"].op_name, program.frame(body["x.1"]), body["x.1"].cycles) == ("x", "", None)
    assert body["z.1"].operands == ["2"]
    assert program.called(body["while.1"]) == ["condition", "body"]
    assert program.called(fusion) == ["fused"]


def test_bytes_of_arrays():
    assert [
        (array.dtype, array.bytes) for array in hlo.arrays("(bf16[3,5]{1,0}, pred[7], f32[], u8[0]{0}, s64[2])")
    ] == [
        ("bf16", 30),
        ("pred", 7),
        ("f32", 4),
        ("u8", 0),
        ("s64", 16),
    ]
    (chip,) = hlo.arrays("f8e4m3fn[4,8]{0,1:T(8,128)(4,1)S(1)}")
    assert (chip.bytes, chip.layout, chip.on_chip) == (32, (0, 1), True)


def test_a_text_that_is_no_program_is_told():
    with pytest.raises(ValueError, match="ENTRY"):
        hlo.parse("HloModule jit_f\n")
