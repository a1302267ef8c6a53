"""What names tell: phases, layers, tensor cores."""

import pytest

from algorithmic_efficiency.profiling import details, operators


@pytest.mark.parametrize(
  ('op_name', 'phase', 'layer'),
  [
    ('jit(train_step)/jvp(Net)/Conv_0/conv_general_dilated', 'forward', 'Conv_0'),
    ('jit(train_step)/transpose(jvp(Net))/Conv_0/reduce_sum', 'backward', 'Conv_0'),
    ('jit(f)/jit(main)/jvp(ResNet)/Block_1/Conv_0/conv', 'forward', 'Block_1/Conv_0'),
    ('jit(train_step)/jvp(Net)/jit(relu)/max', 'forward', ''),
    ('jit(train_step)/add', '', ''),
    ('gradient_tape/model/conv2d_6/Conv2D/Conv2DBackpropFilter', 'backward', 'conv2d_6'),
    ('model/conv2d_6/Conv2D', 'forward', 'conv2d_6'),
    ('sequential/dense/MatMul', 'forward', 'dense'),
    ('Adam/Adam/update_10/ResourceApplyAdam', 'update', ''),
    ('SGD/SGD/update/ResourceApplyGradientDescent', 'update', ''),
    ('aten::convolution_backward', 'backward', ''),
    ('ConvolutionBackward0', 'backward', ''),
    ('aten::add', '', ''),
    ('', '', ''),
  ],
)
def test_phase_and_layer(op_name, phase, layer):
  assert (operators.phase(op_name), operators.layer(op_name)) == (phase, layer)


@pytest.mark.parametrize(
  ('kernel', 'uses'),
  [
    ('volta_scudnn_128x64_relu_interior_nn_v1', False),
    ('volta_sgemm_32x128_nt', False),
    ('volta_h884gemm_64x64_ldg8_nn', True),
    ('volta_fp16_s884cudnn_fp16_128x128_ldg8_splitK_relu_f2f_exp_medium_nhwc', True),
    ('turing_fp16_s1688gemm_fp16_128x128_ldg8_f2f_tn', True),
    ('ampere_bf16_s16816gemm_bf16_64x64_ldg8_f2f_stages_64x5_tn', True),
    ('ampere_sgemm_128x64_tn', False),
    ('sm80_xmma_fprop_implicit_gemm_tf32f32', True),
    ('cutlass_80_tensorop_s1688gemm_128x128', True),
    ('sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize64x64x64_warpgroupsize1x1x1', True),
    ('void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<float>>', False),
    ('nvjet_tst_128x64_64x6_2x1_v_bz_TNT', True),
    ('void wgmma_kernel<128>', True),
    ('loop_add_fusion_884', False),
  ],
)
def test_kernels_on_tensor_cores(kernel, uses):
  assert operators.uses_tensor_core(kernel) is uses


@pytest.mark.parametrize(
  ('op_name', 'op_type', 'eligible'),
  [
    ('model/conv2d/Conv2D', 'Conv2D', True),
    ('gradient_tape/model/conv2d_6/Conv2D/Conv2DBackpropInput', '', True),
    ('gradient_tape/model/dense/MatMul_1', 'MatMul', True),
    ('model/conv2d/BiasAdd', 'BiasAdd', False),
    ('jit(f)/jvp(Net)/Conv_0/conv_general_dilated', '', True),
    ('jit(f)/jvp(Net)/Dense_0/dot_general', '', True),
    ('jit(f)/add', '', False),
    ('aten::cudnn_convolution', '', True),
    ('aten::addmm', '', True),
    ('aten::add', '', False),
    ('aten::convolution_backward', '', True),
  ],
)
def test_operators_that_tensor_cores_could_do(op_name, op_type, eligible):
  assert operators.is_tensor_core_eligible(op_name, op_type) is eligible


def test_annotations():
  told = details.annotation('Adam/add:AddV2')
  assert (told.op_name, told.op_type) == ('Adam/add', 'AddV2')
  note = 'XlaModule:#hlo_module=jit_f,program_id=7#::Thunk:#name=jit(f)/while/body/transpose'
  told = details.annotation(f'{note}[permutation=(1, 0)],hlo_op=custom-call.49#')
  assert told.op_name == 'jit(f)/while/body/transpose[permutation=(1, 0)]'
  assert (told.hlo_op, told.hlo_module, told.program_id) == ('custom-call.49', 'jit_f', '7')
  # A name with a hyphen keeps its type, as in the tables of the time.
  name = 'model/conv2d_6/BiasAdd-0-1-TransposeNCHWToNHWC-LayoutOptimizer:Transpose'
  assert details.annotation(name).op_name == name
  assert details.annotation('#edge_name=copy#').op_name == ''
